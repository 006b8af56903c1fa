package dreamscape

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// row is what became of the events of one type.
type row struct {
	event                    string
	published, read, handled int
	by                       []string
}

func (j *journey) rows() []row {
	rows := make([]row, len(eventTopics))
	times := j.ledger.publishedTimes()
	for i, t := range eventTopics {
		r := row{event: shortTopic(t.name)}
		for ref, n := range times {
			if ref.topic == t.name {
				r.published += n
				r.read += j.reader.times(ref)
			}
		}
		for _, c := range consumptions {
			if c.topicName() == t.name {
				r.handled += j.ledger.handledBy(t.name, c.group())
				r.by = append(r.by, c.service)
			}
		}
		rows[i] = r
	}
	return rows
}

// printSummary prints what this run has seen, also where the journey failed.
func (j *journey) printSummary() {
	j.printEvents()
	j.printConsumptions()
	fmt.Fprintln(j.out)
	for _, s := range j.sagas {
		fmt.Fprintf(j.out, "saga %-25s %s\n", s.name, strings.Join(j.trail(s), " → "))
	}
	m := j.fleet.metrics()
	fmt.Fprintf(j.out, "\nmessagesPublished %d  messagesConsumed %d  deadLettered %d\n", m.MessagesPublished, m.MessagesConsumed, m.DeadLettered)
}

func (j *journey) printEvents() {
	fmt.Fprintf(j.out, "\n%-30s %9s  %9s  %7s  %s\n", "event", "published", "read back", "handled", "by")
	for _, r := range j.rows() {
		handled := "·"
		if len(r.by) > 0 {
			handled = strconv.Itoa(r.handled)
		}
		line := fmt.Sprintf("%-30s %9d  %9d  %7s  %s", r.event, r.published, r.read, handled, strings.Join(r.by, ", "))
		fmt.Fprintln(j.out, strings.TrimRight(line, " "))
	}
	if n := j.ledger.count() - len(j.ledger.events()); n > 0 {
		fmt.Fprintf(j.out, "%d of these are events that were published again, under the same id.\n", n)
	}
}

func (j *journey) printConsumptions() {
	fmt.Fprintf(j.out, "\n%-16s %-25s %-27s %s\n", "service", "handles", "and", "shown by")
	for _, c := range consumptions {
		route := j.shown[c]
		if route == "" {
			route = "not shown"
		}
		fmt.Fprintf(j.out, "%-16s %-25s %-27s %s\n", c.service, c.event, c.does, strings.Replace(route, c.service, "", 1))
	}
}

// printWelcome prints where the services are and what to try.
func printWelcome(out io.Writer, s *site, f *fleet) {
	fmt.Fprintf(out, "DreamScape: %d services on %v\n\n", len(apps), s)
	for i, running := range f.services {
		fmt.Fprintf(out, "  %-16s %-24s %s\n", running.Name(), strings.Replace(running.URL(), "127.0.0.1", "localhost", 1), apps[i].Group())
	}
	fmt.Fprintf(out, "  %-16s http://%s/\n", "console", consoleAddr)
	fmt.Fprint(out, suggestions)
}

const suggestions = `
Try, in another terminal:

  id=$(curl -s localhost:3002/users -d '{"email":"ada@example.com","firstName":"Ada","lastName":"Lovelace"}' | sed 's/.*"userId":"\([^"]*\)".*/\1/')
  curl -s localhost:3001/auth/users/$id                       # user.created has opened a session
  curl -s -X PUT localhost:3003/cards/$id -d '{"cardNumber":"4242424242424242"}'
  curl -s localhost:3004/bookings -d '{"userId":"'$id'","flightId":"FL-PAR-1","hotelId":"HO-PAR-1"}'
  curl -s localhost:3004/users/$id/bookings                   # confirmed: payment-service was paid
  curl -s localhost:3002/users/$id                            # premium
  curl -s localhost:3002/users/$id/history                    # folded from the events
  curl -s localhost:3005/health

Every event that passes is a line: source → topic, and → group where a group is done with it. Ctrl-C ends it.

`
