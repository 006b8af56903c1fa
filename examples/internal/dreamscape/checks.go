package dreamscape

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dreamscape/eventbus"
)

// see awaits what shows that the route's service has handled an event, and notes that it was shown.
func see[T any](ctx context.Context, j *journey, eventType, route, id, expected string, ok func(T) bool) error {
	if _, err := await(ctx, j, route, id, expected, ok); err != nil {
		return err
	}
	for _, c := range consumptions {
		if c.event == eventType && strings.HasPrefix(route, "GET "+c.service+"/") {
			j.shown[c] = route
			return nil
		}
	}
	return fmt.Errorf("%s is no consumption of %s", route, eventType)
}

// settle waits until every event that was published has been handled by every group that handles its kind. Handlers publish before
// they return, so that nothing follows any more.
func (j *journey) settle(ctx context.Context) error {
	return j.poll(ctx, func() (string, error) {
		if waiting := j.ledger.unsettled(); waiting != "" {
			return "not handled yet: " + waiting, nil
		}
		return "", nil
	})
}

// redeliver publishes every event that services handle once more, as a redelivery would bring it, and compares all that can be seen.
func (j *journey) redeliver(ctx context.Context) error {
	if err := errors.Join(j.settle(ctx), j.readAll(ctx)); err != nil {
		return err
	}
	before, err := j.snapshot(ctx)
	if err != nil {
		return err
	}
	published := j.ledger.count()
	repeated, err := j.publishAgain(ctx)
	if err != nil {
		return err
	}
	if err := j.settle(ctx); err != nil {
		return err
	}
	if n := j.ledger.count() - published - repeated; n != 0 {
		return fmt.Errorf("%d events delivered again were answered with %d new events", repeated, n)
	}
	after, err := j.snapshot(ctx)
	if err != nil {
		return err
	}
	for i, was := range before {
		if now := after[i]; now.status != was.status || !bytes.Equal(now.body, was.body) {
			return fmt.Errorf("%s: expected %s, saw %s", was.route, shown(was.status, was.body), shown(now.status, now.body))
		}
	}
	return nil
}

// publishAgain publishes the handled events of this run by their own services' buses.
func (j *journey) publishAgain(ctx context.Context) (n int, err error) {
	bySource := map[string][]eventbus.AnyEvent{}
	for _, p := range j.ledger.events() {
		if !slices.ContainsFunc(consumptions, func(c consumption) bool { return c.topicName() == p.Topic }) {
			continue
		}
		e, _ := j.reader.event(eventRef{p.Topic, p.EventID})
		bySource[p.Source] = append(bySource[p.Source], e.AnyEvent)
		n++
	}
	for source, events := range bySource {
		if err := j.fleet.service(source).Bus().Publish(ctx, events...); err != nil {
			return 0, fmt.Errorf("publishing %d events again: %w", len(events), err)
		}
	}
	return n, nil
}

// sight is an answer to a GET.
type sight struct {
	route  string
	status int
	body   []byte
}

// snapshot is all that the services tell of the travellers and their bookings.
func (j *journey) snapshot(ctx context.Context) ([]sight, error) {
	var seen []sight
	look := func(id string, routes ...string) error {
		for _, route := range routes {
			status, body, err := j.send(ctx, route, id, nil)
			if err != nil {
				return err
			}
			seen = append(seen, sight{route, status, body})
		}
		return nil
	}
	for _, t := range []traveller{j.ada, j.grace} {
		err := look(t.id, getAccount, getUser, getHistory, getAdvice, getProfile,
			"GET payment-service/users/{userId}/payments", "GET voyage-service/users/{userId}/bookings")
		if err != nil {
			return nil, err
		}
	}
	for _, s := range j.sagas {
		if err := look(s.bookingID, getBooking, getPayment); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// checkSagas looks at both ends of every booking, and at the events that its correlation id holds together.
func (j *journey) checkSagas(ctx context.Context) error {
	for _, s := range j.sagas {
		booking, err := ask[bookingView](ctx, j, getBooking, s.bookingID, nil, 200)
		if err != nil {
			return err
		}
		payment, err := ask[paymentView](ctx, j, getPayment, s.bookingID, nil, 200)
		if err != nil {
			return err
		}
		if booking.Status != s.booking || payment.Status != s.payment || payment.Left.Cmp(s.left) != 0 {
			return fmt.Errorf("the saga %q: expected %s, %s, %s left, saw %s, %s, %s left",
				s.name, s.booking, s.payment, s.left, booking.Status, payment.Status, payment.Left)
		}
		if trail := j.trail(s); !slices.Equal(trail, s.events) {
			return fmt.Errorf("the saga %q: expected the events %v under its correlation id, saw %v", s.name, s.events, trail)
		}
	}
	return nil
}

// trail is the events of a booking's correlation id, in the order in which they should come; an acknowledgement may reach a service
// after what followed from its event.
func (j *journey) trail(s *saga) (events []string) {
	for _, p := range j.ledger.events() {
		if p.CorrelationID == s.bookingID {
			events = append(events, shortTopic(p.Topic))
		}
	}
	slices.SortStableFunc(events, func(a, b string) int {
		return cmp.Compare(slices.Index(s.events, a), slices.Index(s.events, b))
	})
	return events
}

// readAll waits until the reader has read every event of this run as often as it was published.
func (j *journey) readAll(ctx context.Context) error {
	return j.poll(ctx, func() (string, error) {
		for ref, times := range j.ledger.publishedTimes() {
			if n := j.reader.times(ref); n < times {
				return fmt.Sprintf("%s %s: published %d times, read back %d times", shortTopic(ref.topic), shortID(ref.id), times, n), nil
			}
		}
		return "", nil
	})
}

func (j *journey) checkEvents(ctx context.Context) error {
	if err := j.readAll(ctx); err != nil {
		return err
	}
	var missing []string
	for _, r := range j.rows() {
		if r.published == 0 || r.read != r.published {
			missing = append(missing, fmt.Sprintf("%s (%d published, %d read back)", r.event, r.published, r.read))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not as expected: %s", strings.Join(missing, ", "))
	}
	return nil
}

func (j *journey) checkConsumptions(context.Context) error {
	var missing []string
	for _, c := range consumptions {
		if j.shown[c] == "" || j.ledger.handledBy(c.topicName(), c.group()) == 0 {
			missing = append(missing, c.event+" by "+c.service)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not handled, or not shown: %s", strings.Join(missing, ", "))
	}
	return nil
}

func (j *journey) checkDeadLetters(ctx context.Context) error {
	grown, err := j.reader.deadLetters(ctx)
	if err == nil && len(grown) > 0 {
		err = fmt.Errorf("dead letters: %s", strings.Join(grown, ", "))
	}
	return err
}
