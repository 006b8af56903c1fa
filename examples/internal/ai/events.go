package ai

import (
	"context"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// analyse counts a search and publishes what the searches show.
func (s *Service) analyse(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageSearchPerformedPayload]) error {
	return s.learn(ctx, e.Payload.UserID, func(p Profile) (Profile, eventbus.AnyEvent) {
		p = p.noting(e.Payload.SearchCriteria, func(i *Interest) { i.Searches++ })
		p.Searches++
		return p, service.FollowUp(e, eventbus.AIUserBehaviorAnalyzed.New(eventbus.AIUserBehaviorAnalyzedPayload{
			UserID: p.UserID, Insights: map[string]any{"searches": p.Searches, "destinations": p.Destinations},
		}))
	})
}

// predict updates the profile by a selected flight and publishes where the user will go next.
func (s *Service) predict(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageFlightSelectedPayload]) error {
	return s.learn(ctx, e.Payload.UserID, func(p Profile) (Profile, eventbus.AnyEvent) {
		p = p.noting(e.Payload.FlightData, func(i *Interest) { i.Flights++ })
		best := p.recommend(nil)[0]
		p.Prediction = &Prediction{
			PredictionType: "next-destination",
			Data:           map[string]any{"destination": best.Destination, "because": best.Because},
		}
		return p, service.FollowUp(e, eventbus.AIPredictionMade.New(eventbus.AIPredictionMadePayload{
			UserID: p.UserID, PredictionType: p.Prediction.PredictionType, Data: p.Prediction.Data,
		}))
	})
}

// refine refines the recommendations by a selected hotel.
func (s *Service) refine(ctx context.Context, e *eventbus.BaseEvent[eventbus.VoyageHotelSelectedPayload]) error {
	return s.learn(ctx, e.Payload.UserID, func(p Profile) (Profile, eventbus.AnyEvent) {
		p = p.noting(e.Payload.HotelData, func(i *Interest) { i.Hotels++ })
		p, generated := p.recommended(e.EventType, nil)
		return p, service.FollowUp(e, generated)
	})
}

// recompute recomputes the recommendations by what the user says of himself.
func (s *Service) recompute(ctx context.Context, e *eventbus.BaseEvent[eventbus.UserProfileUpdatedPayload]) error {
	return s.learn(ctx, e.Payload.UserID, func(p Profile) (Profile, eventbus.AnyEvent) {
		p.ProfileData = e.Payload.ProfileData
		p, generated := p.recommended(e.EventType, nil)
		return p, service.FollowUp(e, generated)
	})
}

// learn publishes what an event shows of a user and makes the changed profile its state.
func (s *Service) learn(ctx context.Context, userID string, next func(Profile) (Profile, eventbus.AnyEvent)) error {
	unlock, err := s.locks.Lock(ctx, userID)
	if err != nil {
		return err
	}
	defer unlock()
	p, _ := s.profiles.Get(userID)
	p.UserID = userID
	p, learned := next(p)
	if err := s.publisher.Publish(ctx, learned); err != nil {
		return err
	}
	s.profiles.Put(userID, p)
	return nil
}
