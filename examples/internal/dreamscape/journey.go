package dreamscape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/dreamscape/eventbus"
)

// journey is a traveller's way through the services, and what is seen of it from outside: by HTTP, by a reader of its own, and by the
// services' hooks.
type journey struct {
	out    io.Writer
	http   *http.Client
	fleet  *fleet
	reader *reader
	ledger *ledger

	ada, grace traveller
	sagas      []*saga
	shown      map[consumption]string // the GET that showed it
}

// step is a part of a journey. Each begins where the one before has ended.
type step struct {
	name string
	do   func(context.Context) error
}

func (j *journey) steps() []step {
	return []step{
		{"Ada signs up: auth-service opens her session", j.signUp},
		{"wrong requests are refused by field and publish nothing", j.wrongRequests},
		{"she sets a password and logs in: user-service notes it", j.logIn},
		{"her token is refreshed, the old one is void", j.refreshToken},
		{"she changes her name and preferences", j.changeUser},
		{"she names her interests: ai-service recommends by them", j.nameInterests},
		{"she searches Paris: ai-service analyses it", j.search},
		{"she selects a flight: ai-service predicts where to", j.selectFlight},
		{"she selects a hotel: ai-service refines its recommendations", j.selectHotel},
		{"she asks for recommendations", j.askRecommendations},
		{"she books Paris without a card: the payment waits", j.bookWithoutCard},
		{"she gives a card: paid, booking confirmed, Ada premium", j.giveCard},
		{"she changes the booking", j.changeBooking},
		{"she books Lisbon and gets a part back", j.partialRefund},
		{"she books Oslo, pays and cancels: refunded", j.cancelPaid},
		{"she books Rome and her card is declined: cancelled", j.declinedCard},
		{"Grace books without a card and cancels: never charged", j.cancelUnpaid},
		{"Grace mistakes her password five times: locked", j.lockAccount},
		{"Ada forgets her password: a token, sent by event, resets it", j.resetPassword},
		{"she logs out", j.logOut},
		{"her history is folded from her events", j.readHistory},
		{"she deletes her account: auth-service voids her tokens", j.deleteUser},
		{"every handled event comes again: nothing changes", j.redeliver},
		{"every saga has ended where it should", j.checkSagas},
		{"all 27 events were published and read back", j.checkEvents},
		{"all 12 consumptions happened and were shown", j.checkConsumptions},
		{"the dead-letter topics are empty", j.checkDeadLetters},
	}
}

// startJourney starts the reader and then the services, so that the reader misses nothing of what they publish.
func startJourney(ctx context.Context, site *site, out io.Writer, verbose bool) (*journey, error) {
	if err := prepareTopics(ctx, site.cfg); err != nil {
		return nil, err
	}
	r, err := startReader(ctx, site.cfg)
	if err != nil {
		return nil, err
	}
	j := &journey{out: out, http: &http.Client{}, reader: r, ledger: newLedger(), shown: map[consumption]string{}}
	if err := j.startFleet(ctx, site.cfg, verbose); err != nil {
		r.close()
		return nil, err
	}
	return j, nil
}

func (j *journey) startFleet(ctx context.Context, cfg eventbus.Config, verbose bool) (err error) {
	cfg.Hooks = []eventbus.Hooks{j.ledger.hooks()}
	if verbose {
		cfg.Hooks = append(cfg.Hooks, newEventLog(j.out).hooks())
	}
	if err := j.reader.refuseCompany(ctx); err != nil {
		return err
	}
	j.fleet, err = startFleet(ctx, cfg, anyPort)
	return err
}

// prepareTopics makes the topics that the reader needs.
func prepareTopics(ctx context.Context, cfg eventbus.Config) (err error) {
	cfg.Service = "dreamscape-journey"
	bus, err := eventbus.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Shutdown(context.WithoutCancel(ctx))) }() // at once: nothing is published
	return bus.EnsureTopics(ctx, eventbus.Catalogue()...)
}

// travel takes the steps and stops at the first that fails.
func (j *journey) travel(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, fmt.Errorf("the journey was not done within %v", timeLimit))
	defer cancel()
	ctx, end := j.fleet.watch(ctx)
	defer end()
	defer j.http.CloseIdleConnections()
	for i, s := range j.steps() {
		began := time.Now()
		err := s.do(ctx)
		mark := "✓"
		if err != nil {
			mark = "✗"
		}
		fmt.Fprintf(j.out, "%3d %s %-62s %6d ms\n", i+1, mark, s.name, time.Since(began).Milliseconds())
		if err != nil {
			return errors.Join(fmt.Errorf("step %d, %s: %w", i+1, s.name, err), j.reader.company(ctx))
		}
	}
	return nil
}
