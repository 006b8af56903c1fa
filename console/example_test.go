package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/console"
	"github.com/dreamscape/eventbus/embedded"
)

// bus is the service's own.
func exampleBus() (bus *eventbus.Bus, end func()) {
	broker, err := embedded.Start(embedded.Options{})
	if err != nil {
		panic(err)
	}
	bus, err = eventbus.New(eventbus.Config{Service: "ops", Brokers: broker.Brokers()})
	if err != nil {
		panic(err)
	}
	return bus, broker.Close
}

// A service mounts the page behind its own login.
func ExampleNew() {
	bus, end := exampleBus()
	defer end()
	login := func(next http.Handler) http.Handler { return next } // yours

	page, err := console.New(bus, &console.Options{AllowRedrive: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer page.Close() // before bus.Shutdown
	mux := http.NewServeMux()
	mux.Handle("/console/", login(http.StripPrefix("/console", page)))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/console/", nil))
	fmt.Println(answer.Code)
	// Output: 200
}
