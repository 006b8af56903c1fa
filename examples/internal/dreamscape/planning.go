package dreamscape

import (
	"context"
	"slices"
)

// adviceView is what ai-service recommends.
type adviceView struct {
	Cause           string `json:"cause"`
	Recommendations []struct {
		Destination string   `json:"destination"`
		Because     []string `json:"because"`
	} `json:"recommendations"`
}

// recommends says whether a destination is recommended for that reason.
func (a adviceView) recommends(because string) bool {
	for _, r := range a.Recommendations {
		if slices.Contains(r.Because, because) {
			return true
		}
	}
	return false
}

// profileView is what ai-service knows of a user.
type profileView struct {
	Searches     int `json:"searches"`
	Destinations map[string]struct {
		Searches int `json:"searches"`
		Flights  int `json:"flights"`
		Hotels   int `json:"hotels"`
	} `json:"destinations"`
	Prediction struct {
		PredictionType string `json:"predictionType"`
	} `json:"prediction"`
}

const (
	getAdvice  = "GET ai-service/users/{userId}/recommendations"
	getProfile = "GET ai-service/users/{userId}/profile"
)

func (j *journey) nameInterests(ctx context.Context) error {
	interests := object{"profileData": object{"interests": []string{"culture", "food"}}}
	if err := j.command(ctx, "PUT user-service/users/{userId}/profile", j.ada.id, interests, 200); err != nil {
		return err
	}
	return see(ctx, j, "user.profile.updated", getAdvice, j.ada.id, "recommendations because of an interest", func(a adviceView) bool {
		return a.recommends("interest")
	})
}

func (j *journey) search(ctx context.Context) error {
	criteria := object{"userId": j.ada.id, "searchCriteria": object{"destination": "Paris"}}
	if err := j.command(ctx, "POST voyage-service/searches", "", criteria, 200); err != nil {
		return err
	}
	return see(ctx, j, "voyage.search.performed", getProfile, j.ada.id, "one search for Paris", func(p profileView) bool {
		return p.Searches == 1 && p.Destinations["Paris"].Searches == 1
	})
}

func (j *journey) selectFlight(ctx context.Context) error {
	if err := j.command(ctx, "POST voyage-service/flight-selections", "", object{"userId": j.ada.id, "flightId": "FL-PAR-1"}, 201); err != nil {
		return err
	}
	return see(ctx, j, "voyage.flight.selected", getProfile, j.ada.id, "a flight to Paris and a prediction", func(p profileView) bool {
		return p.Destinations["Paris"].Flights == 1 && p.Prediction.PredictionType != ""
	})
}

func (j *journey) selectHotel(ctx context.Context) error {
	if err := j.command(ctx, "POST voyage-service/hotel-selections", "", object{"userId": j.ada.id, "hotelId": "HO-PAR-1"}, 201); err != nil {
		return err
	}
	return see(ctx, j, "voyage.hotel.selected", getAdvice, j.ada.id, "recommendations because of a hotel", func(a adviceView) bool {
		return a.Cause == "voyage.hotel.selected" && a.recommends("hotel")
	})
}

func (j *journey) askRecommendations(ctx context.Context) error {
	request := object{"userId": j.ada.id, "context": object{"season": "spring"}}
	if err := j.command(ctx, "POST ai-service/recommendations", "", request, 201); err != nil {
		return err
	}
	_, err := await(ctx, j, getAdvice, j.ada.id, "recommendations caused by the request", func(a adviceView) bool {
		return a.Cause != "voyage.hotel.selected" && len(a.Recommendations) > 0
	})
	return err
}
