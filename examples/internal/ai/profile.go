package ai

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Profile is what is known of a user's taste.
type Profile struct {
	UserID       string              `json:"userId"`
	Searches     int                 `json:"searches"`
	Destinations map[string]Interest `json:"destinations"`
	ProfileData  map[string]any      `json:"profileData"` // what the user said in user-service
	Prediction   *Prediction         `json:"prediction,omitzero"`

	latest Recommendations
}

// Interest is what a user did about a destination.
type Interest struct {
	Searches int `json:"searches"`
	Flights  int `json:"flights"`
	Hotels   int `json:"hotels"`
}

// Prediction is what a user will probably do.
type Prediction struct {
	PredictionType string         `json:"predictionType"`
	Data           map[string]any `json:"data"`
}

// noting returns the profile with one more thing done about the destination that an event's open object names; unchanged where it
// names none.
func (p Profile) noting(object map[string]any, add func(*Interest)) Profile {
	destination := destinationOf(object)
	if destination == "" {
		return p
	}
	interest := p.Destinations[destination]
	add(&interest)
	p.Destinations = maps.Clone(p.Destinations)
	if p.Destinations == nil {
		p.Destinations = map[string]Interest{}
	}
	p.Destinations[destination] = interest
	return p
}

// destinationOf is the destination that an event's open object names, "" for none. Users write it in small letters too.
func destinationOf(object map[string]any) string {
	named, _ := object["destination"].(string)
	for _, known := range []string{"Lisbon", "Oslo", "Paris", "Rome"} {
		if strings.EqualFold(named, known) {
			return known
		}
	}
	return named
}

// recommend ranks the destinations that the user or the context of a request has anything to do with, the best first.
func (p Profile) recommend(context map[string]any) []Recommendation {
	ranking := ranking{}
	for destination, done := range p.Destinations {
		ranking.add(destination, 1*done.Searches, "searched")
		ranking.add(destination, 3*done.Flights, "flight")
		ranking.add(destination, 4*done.Hotels, "hotel")
	}
	for _, object := range []map[string]any{p.ProfileData, context} {
		interests, _ := object["interests"].([]any)
		for _, interest := range interests {
			name, _ := interest.(string)
			for _, destination := range goodFor[name] {
				ranking.add(destination, 2, "interest")
			}
		}
	}
	if len(ranking) == 0 {
		ranking.add("Paris", 1, "popular")
	}
	return ranking.best()
}

// goodFor are the destinations for an interest.
var goodFor = map[string][]string{
	"beach":   {"Lisbon"},
	"culture": {"Paris", "Rome"},
	"food":    {"Lisbon", "Rome"},
	"nature":  {"Oslo"},
}

// ranking has a recommendation a destination.
type ranking map[string]Recommendation

func (r ranking) add(destination string, score int, because string) {
	if score == 0 {
		return
	}
	rec := r[destination]
	rec.Destination = destination
	rec.Score += score
	if !slices.Contains(rec.Because, because) {
		rec.Because = append(rec.Because, because)
	}
	r[destination] = rec
}

const maxRecommendations = 3

func (r ranking) best() []Recommendation {
	sorted := slices.SortedFunc(maps.Values(r), func(a, b Recommendation) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Destination, b.Destination))
	})
	return sorted[:min(len(sorted), maxRecommendations)]
}
