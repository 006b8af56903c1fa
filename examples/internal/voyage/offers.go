package voyage

import (
	"net/http"
	"slices"
	"strings"

	"github.com/dreamscape/eventbus"
)

// Flight is a flight on offer.
type Flight struct {
	FlightID    string           `json:"flightId"`
	Airline     string           `json:"airline"`
	Destination string           `json:"destination"`
	Price       eventbus.Decimal `json:"price"` // in [Currency]
}

// Hotel is a hotel on offer.
type Hotel struct {
	HotelID     string           `json:"hotelId"`
	Name        string           `json:"name"`
	Destination string           `json:"destination"`
	Stars       int              `json:"stars"`
	Price       eventbus.Decimal `json:"price"` // in [Currency]
}

// Currency is that of all prices.
const Currency = "EUR"

var (
	flights = []Flight{
		{"FL-PAR-1", "Aurora", "Paris", eventbus.MustDecimal("119.90")},
		{"FL-PAR-2", "Boreal", "Paris", eventbus.MustDecimal("89.50")},
		{"FL-LIS-1", "Aurora", "Lisbon", eventbus.MustDecimal("142.30")},
		{"FL-OSL-1", "Boreal", "Oslo", eventbus.MustDecimal("99.99")},
		{"FL-ROM-1", "Aurora", "Rome", eventbus.MustDecimal("76.00")},
	}
	hotels = []Hotel{
		{"HO-PAR-1", "Hôtel du Quai", "Paris", 4, eventbus.MustDecimal("240.10")},
		{"HO-PAR-2", "Petit Séjour", "Paris", 2, eventbus.MustDecimal("130.00")},
		{"HO-LIS-1", "Casa do Tejo", "Lisbon", 3, eventbus.MustDecimal("95.25")},
		{"HO-OSL-1", "Fjordhuset", "Oslo", 4, eventbus.MustDecimal("180.01")},
		{"HO-ROM-1", "Albergo Sole", "Rome", 3, eventbus.MustDecimal("110.40")},
	}
)

type offers struct {
	Flights []Flight `json:"flights"`
	Hotels  []Hotel  `json:"hotels"`
}

func (s *Service) offers(*http.Request) (offers, error) {
	return offers{Flights: flights, Hotels: hotels}, nil
}

// offersAt returns the offers at a destination, however it is capitalised; all of them for "".
func offersAt(destination string) offers {
	elsewhere := func(at string) bool { return destination != "" && !strings.EqualFold(at, destination) }
	return offers{
		Flights: slices.DeleteFunc(slices.Clone(flights), func(f Flight) bool { return elsewhere(f.Destination) }),
		Hotels:  slices.DeleteFunc(slices.Clone(hotels), func(h Hotel) bool { return elsewhere(h.Destination) }),
	}
}

func findFlight(id string) (Flight, bool) {
	i := slices.IndexFunc(flights, func(f Flight) bool { return f.FlightID == id })
	if i < 0 {
		return Flight{}, false
	}
	return flights[i], true
}

func findHotel(id string) (Hotel, bool) {
	i := slices.IndexFunc(hotels, func(h Hotel) bool { return h.HotelID == id })
	if i < 0 {
		return Hotel{}, false
	}
	return hotels[i], true
}
