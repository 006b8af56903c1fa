package ai

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/servicetest"
)

// world is an ai-service.
type world struct {
	*Service
	t      *testing.T
	events *servicetest.Publisher
}

func newWorld(t *testing.T) world {
	events := servicetest.NewPublisher(t)
	return world{Service: New(events), t: t, events: events}
}

func (w world) profile() Profile {
	w.t.Helper()
	return servicetest.Get[Profile](w.t, w.Service, "/users/u-1/profile")
}

func (w world) recommendations() Recommendations {
	w.t.Helper()
	return servicetest.Get[Recommendations](w.t, w.Service, "/users/u-1/recommendations")
}

func searched(destination string) *eventbus.BaseEvent[eventbus.VoyageSearchPerformedPayload] {
	return eventbus.VoyageSearchPerformed.New(eventbus.VoyageSearchPerformedPayload{
		UserID: "u-1", SearchCriteria: map[string]any{"destination": destination},
	})
}

func TestSearchesAreCountedOnce(t *testing.T) {
	w := newWorld(t)
	handle := service.Once(&w.memory, w.analyse)
	e := searched("paris")
	require.NoError(t, handle(t.Context(), e))
	require.NoError(t, handle(t.Context(), e))
	require.NoError(t, handle(t.Context(), searched("Ys")))
	p := w.profile()
	require.Equal(t, 2, p.Searches)
	require.Equal(t, map[string]Interest{"Paris": {Searches: 1}, "Ys": {Searches: 1}}, p.Destinations)
	require.Len(t, servicetest.Published(w.events, eventbus.AIUserBehaviorAnalyzed), 2)
}

func TestRetryRepeatsTheSameEvent(t *testing.T) {
	w := newWorld(t)
	handle := service.Once(&w.memory, w.analyse)
	e := searched("Paris")
	w.events.LoseAcks(true)
	require.ErrorIs(t, handle(t.Context(), e), servicetest.ErrLost)
	w.events.LoseAcks(false)
	require.NoError(t, handle(t.Context(), e))
	analyzed := servicetest.Published(w.events, eventbus.AIUserBehaviorAnalyzed)
	require.Len(t, analyzed, 2)
	require.Equal(t, analyzed[0].EventID, analyzed[1].EventID)
	require.Equal(t, analyzed[0].Payload, analyzed[1].Payload)
	require.Equal(t, 1, w.profile().Searches)
}

func TestWhatIsSelectedCountsMore(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.analyse(t.Context(), searched("Oslo")))
	require.NoError(t, w.predict(t.Context(), eventbus.VoyageFlightSelected.New(eventbus.VoyageFlightSelectedPayload{
		UserID: "u-1", FlightID: "f-1", FlightData: map[string]any{"destination": "Rome"},
	})))
	require.Equal(t, "Rome", w.profile().Prediction.Data["destination"])
	require.Len(t, servicetest.Published(w.events, eventbus.AIPredictionMade), 1)

	require.NoError(t, w.refine(t.Context(), eventbus.VoyageHotelSelected.New(eventbus.VoyageHotelSelectedPayload{
		UserID: "u-1", HotelID: "h-1", HotelData: map[string]any{"destination": "Lisbon"},
	})))
	r := w.recommendations()
	require.Equal(t, "voyage.hotel.selected", r.Cause)
	require.Equal(t, []Recommendation{
		{Destination: "Lisbon", Score: 4, Because: []string{"hotel"}},
		{Destination: "Rome", Score: 3, Because: []string{"flight"}},
		{Destination: "Oslo", Score: 1, Because: []string{"searched"}},
	}, r.Recommendations)
}

func TestProfileRecomputes(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.recompute(t.Context(), eventbus.UserProfileUpdated.New(eventbus.UserProfileUpdatedPayload{
		UserID: "u-1", ProfileData: map[string]any{"interests": []any{"nature", "chess", 7}},
	})))
	r := w.recommendations()
	require.Equal(t, "user.profile.updated", r.Cause)
	require.Equal(t, []Recommendation{{Destination: "Oslo", Score: 2, Because: []string{"interest"}}}, r.Recommendations)
	require.Len(t, servicetest.Published(w.events, eventbus.AIRecommendationGenerated), 1)
}

func TestRequestRecommends(t *testing.T) {
	w := newWorld(t)
	a := servicetest.Do(w.Service, "POST", "/recommendations", `{"userId":"u-1","context":{"interests":["beach"]}}`)
	r := servicetest.As[Recommendations](t, http.StatusCreated, a)
	require.Equal(t, "Lisbon", r.Recommendations[0].Destination)
	require.Equal(t, r, w.recommendations())
	require.Len(t, servicetest.Published(w.events, eventbus.AIRecommendationRequested), 1)
	require.Len(t, servicetest.Published(w.events, eventbus.AIRecommendationGenerated), 1)

	stranger := servicetest.Do(w.Service, "POST", "/recommendations", `{"userId":"u-2","context":{}}`)
	r = servicetest.As[Recommendations](t, http.StatusCreated, stranger)
	require.Equal(t, []Recommendation{{Destination: "Paris", Score: 1, Because: []string{"popular"}}}, r.Recommendations)
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	servicetest.RequireRefused(t, w.Service, w.events, []servicetest.Refusal{
		{Method: "POST", Path: "/recommendations", Body: `{"userId":"u-1"}`, Field: "context", Expected: "an object"},
		{Method: "POST", Path: "/recommendations", Body: `{"userId":"","context":{}}`, Field: "userId", Expected: "a string"},
		{Method: "POST", Path: "/recommendations", Body: `{"userId":"u-1","context":[]}`, Field: "context", Expected: "a JSON object"},
	})
	for _, path := range []string{"/users/x/profile", "/users/x/recommendations"} {
		require.Equal(t, http.StatusNotFound, servicetest.Do(w.Service, "GET", path, "").Status)
	}
}
