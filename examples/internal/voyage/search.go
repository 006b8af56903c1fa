package voyage

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

type searchRequest struct {
	UserID         string         `json:"userId"`
	SearchCriteria map[string]any `json:"searchCriteria"`
}

// Check implements [service.Body].
func (q searchRequest) Check(p *service.Problems) {
	p.Text("userId", q.UserID)
	p.Require(q.SearchCriteria != nil, "searchCriteria", `an object such as {"destination": "Paris"}`)
	if destination, given := q.SearchCriteria["destination"]; given {
		_, ok := destination.(string)
		p.Require(ok, "searchCriteria.destination", "a string")
	}
}

type searchResult struct {
	ResultCount int      `json:"resultCount"`
	Flights     []Flight `json:"flights"`
	Hotels      []Hotel  `json:"hotels"`
}

func (s *Service) search(r *http.Request, in searchRequest) (searchResult, error) {
	destination, _ := in.SearchCriteria["destination"].(string)
	found := offersAt(destination)
	result := searchResult{ResultCount: len(found.Flights) + len(found.Hotels), Flights: found.Flights, Hotels: found.Hotels}
	return result, s.publisher.Publish(r.Context(), eventbus.VoyageSearchPerformed.New(eventbus.VoyageSearchPerformedPayload{
		UserID: in.UserID, SearchCriteria: in.SearchCriteria, ResultCount: result.ResultCount,
	}))
}

type flightSelection struct {
	UserID   string `json:"userId"`
	FlightID string `json:"flightId"`
}

// Check implements [service.Body].
func (f flightSelection) Check(p *service.Problems) {
	p.Text("userId", f.UserID)
	checkFlight(p, f.FlightID)
}

func checkFlight(p *service.Problems, id string) {
	_, ok := findFlight(id)
	p.Require(ok, "flightId", "a flight on offer, such as FL-PAR-1: see GET /offers")
}

func (s *Service) selectFlight(r *http.Request, in flightSelection) (Flight, error) {
	f, _ := findFlight(in.FlightID)
	return f, s.publisher.Publish(r.Context(), eventbus.VoyageFlightSelected.New(eventbus.VoyageFlightSelectedPayload{
		UserID: in.UserID, FlightID: f.FlightID,
		FlightData: map[string]any{"airline": f.Airline, "destination": f.Destination, "price": f.Price, "currency": Currency},
	}))
}

type hotelSelection struct {
	UserID  string `json:"userId"`
	HotelID string `json:"hotelId"`
}

// Check implements [service.Body].
func (h hotelSelection) Check(p *service.Problems) {
	p.Text("userId", h.UserID)
	checkHotel(p, h.HotelID)
}

func checkHotel(p *service.Problems, id string) {
	_, ok := findHotel(id)
	p.Require(ok, "hotelId", "a hotel on offer, such as HO-PAR-1: see GET /offers")
}

func (s *Service) selectHotel(r *http.Request, in hotelSelection) (Hotel, error) {
	h, _ := findHotel(in.HotelID)
	return h, s.publisher.Publish(r.Context(), eventbus.VoyageHotelSelected.New(eventbus.VoyageHotelSelectedPayload{
		UserID: in.UserID, HotelID: h.HotelID,
		HotelData: map[string]any{"name": h.Name, "destination": h.Destination, "stars": h.Stars, "price": h.Price, "currency": Currency},
	}))
}
