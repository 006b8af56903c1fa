package eventbus_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/dreamscape/eventbus"
)

func ExampleAccess_Permissions() {
	openSession := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }
	sub := eventbus.Subscription{Group: "auth-group", Routes: []eventbus.Route{eventbus.UserCreated.Handle(openSession, nil)}}
	access := eventbus.Access{Publishes: []eventbus.AnyTopic{eventbus.AuthLogin}, Handles: []eventbus.Subscription{sub}}
	for _, p := range access.Permissions("staging.") {
		fmt.Println("kafka-acls.sh --bootstrap-server kafka:9092", strings.Join(p.Arguments("User:auth-service"), " "))
	}
	// Output:
	// kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:auth-service --operation Write --topic staging.dreamscape.auth.login
	// kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:auth-service --operation Read --topic staging.dreamscape.user.created
	// kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:auth-service --operation Write --topic staging.dreamscape.user.created.dlq.staging.auth-group
	// kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:auth-service --operation Read --topic staging.dreamscape.user.created.retry.staging.auth-group
	// kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:auth-service --operation Read --group staging.auth-group
}
