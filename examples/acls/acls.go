// Package acls says what Kafka must allow DreamScape's services: exactly what they do, from their own code.
package acls

import (
	"fmt"
	"io"
	"strings"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/ai"
	"github.com/dreamscape/eventbus/examples/internal/auth"
	"github.com/dreamscape/eventbus/examples/internal/payment"
	"github.com/dreamscape/eventbus/examples/internal/service"
	"github.com/dreamscape/eventbus/examples/internal/user"
	"github.com/dreamscape/eventbus/examples/internal/voyage"
)

// Principal is somebody who logs in.
type Principal struct {
	Name   string // such as "auth-service"
	Access eventbus.Access
}

// Services are the five services.
func Services() []Principal {
	var all []Principal
	for _, app := range []service.App{auth.App, user.App, payment.App, voyage.App, ai.App} {
		all = append(all, Principal{Name: app.Name, Access: app.Access()})
	}
	return all
}

// Operator is who makes the topics of all services, and looks at, sends back and deletes their dead letters.
func Operator() Principal {
	op := Principal{Name: "dreamscape-operator", Access: eventbus.Access{Makes: eventbus.Catalogue()}}
	for _, s := range Services() {
		for _, sub := range s.Access.Handles {
			op.Access.Redrives = append(op.Access.Redrives, sub)
			op.Access.Purges = append(op.Access.Purges, sub)
			op.Access.Makes = append(op.Access.Makes, sub.Topics()...)
		}
	}
	return op
}

// Print writes the arguments of kafka-acls.sh that allow each of them what it needs, one permission a line. topicPrefix is Config.TopicPrefix.
func Print(w io.Writer, topicPrefix string) error {
	for _, p := range append(Services(), Operator()) {
		if _, err := fmt.Fprintf(w, "# %s\n", p.Name); err != nil {
			return err
		}
		for _, permission := range p.Access.Permissions(topicPrefix) {
			if _, err := fmt.Fprintln(w, strings.Join(permission.Arguments("User:"+p.Name), " ")); err != nil {
				return err
			}
		}
	}
	return nil
}
