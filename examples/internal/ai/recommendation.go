package ai

import (
	"net/http"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// Recommendations are the latest ones for a user.
type Recommendations struct {
	UserID          string           `json:"userId"`
	Recommendations []Recommendation `json:"recommendations"`
	Cause           string           `json:"cause"` // the type of the event that they follow
	GeneratedAt     time.Time        `json:"generatedAt"`
}

// Recommendation is a destination that a user may like.
type Recommendation struct {
	Destination string   `json:"destination"`
	Score       int      `json:"score"`
	Because     []string `json:"because"`
}

// recommended is the profile with new recommendations, and the event that tells of them. context is a request's, nil for none.
func (p Profile) recommended(cause string, context map[string]any) (Profile, *eventbus.BaseEvent[eventbus.AIRecommendationGeneratedPayload]) {
	found := p.recommend(context)
	payload := eventbus.AIRecommendationGeneratedPayload{UserID: p.UserID}
	for _, r := range found {
		payload.Recommendations = append(payload.Recommendations, r)
	}
	e := eventbus.AIRecommendationGenerated.New(payload)
	p.latest = Recommendations{UserID: p.UserID, Recommendations: found, Cause: cause, GeneratedAt: e.Timestamp}
	return p, e
}

type recommendationRequest struct {
	UserID  string         `json:"userId"`
	Context map[string]any `json:"context"`
}

// Check implements [service.Body].
func (q recommendationRequest) Check(p *service.Problems) {
	p.Text("userId", q.UserID)
	p.Require(q.Context != nil, "context", `an object such as {"interests": ["beach"]}`)
}

// request recommends at once. The request and its result carry one correlation id.
func (s *Service) request(r *http.Request, in recommendationRequest) (Recommendations, error) {
	unlock, err := s.locks.Lock(r.Context(), in.UserID)
	if err != nil {
		return Recommendations{}, err
	}
	defer unlock()
	p, _ := s.profiles.Get(in.UserID)
	p.UserID = in.UserID
	requested := eventbus.AIRecommendationRequested.New(eventbus.AIRecommendationRequestedPayload{UserID: in.UserID, Context: in.Context})
	p, generated := p.recommended(requested.EventType, in.Context)
	ctx := eventbus.WithCorrelationID(r.Context(), requested.EventID)
	if err := s.publisher.Publish(ctx, requested, generated); err != nil {
		return Recommendations{}, err
	}
	s.profiles.Put(p.UserID, p)
	return p.latest, nil
}
