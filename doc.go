// Package eventbus is a typed event bus for Go services on Apache Kafka.
//
// A [Topic] knows the type of its payload. It makes events ([Topic.New]) and routes them to handlers ([Topic.Handle]), so that a wrong
// payload or handler does not compile. A [Bus] publishes events and runs handlers; a service has one. DreamScape's 27 topics are in
// this package, such as [UserCreated]; another company's are declared with [NewTopic], beside their payloads.
//
// # Starting
//
// [FromEnv] reads the environment, [New] checks the configuration and connects in the background, [Bus.EnsureTopics] creates the topics
// that are missing. Publishing and consuming never create one. The package's first Example is a whole service.
//
// # Publishing
//
//	err := bus.Publish(ctx, eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com"}))
//
// [Bus.Publish] takes one event or many, of any topics. All are checked against their JSON Schemas before any is sent. It returns when
// all in-sync replicas have them; ctx and [Config.PublishTimeout] bound the wait. Its error says of each event whether it was certainly
// not written ([ErrNotSent]) or may have been ([ErrOutcomeUnknown]). [Bus.PublishAsync] does not wait.
//
// # Handling
//
//	err := bus.Run(ctx, eventbus.Subscription{
//		Group: "dreamscape-auth-service-group",
//		Routes: []eventbus.Route{
//			eventbus.UserCreated.Handle(openSession, nil),
//			eventbus.UserDeleted.Handle(revokeTokens, &eventbus.HandleOptions{Timeout: 5 * time.Second}),
//		},
//	})
//
// A [Handler] that returns nil is done with its event. An error has it tried again by the [RetryPolicy]; then the event goes to the
// dead-letter topic of its topic and group. [Permanent] skips the tries, [RetryAfter] sets the wait. A handler passes its ctx on when it
// publishes: the new event inherits the correlation id and names its cause. [Middleware] wraps handlers, [Hooks] tell what became of events,
// [Fold] rebuilds a state from the events of a key.
//
// # Dead letters
//
// [Bus.DeadLetters] lists, filters, groups and shows what a group has given up. [DeadLetters.Redrive] sends it back to that group alone, at
// a rate and from where it was interrupted; [DeadLetters.Purge] deletes it. Both do nothing but count until they are told.
// [ParseDeadLetter] reads one.
//
// # What is promised
//
//   - An acknowledged event is not lost, and not doubled by retries of the client.
//   - A consumed event is handled at least once. It may come again after a crash, so handlers must be repeatable.
//   - An event ends handled or dead-lettered; its offset is committed only then, and only while its partition is owned.
//   - The events of a key are handled in order, one at a time, retries included; those of different keys at once, and a key that fails
//     holds up no other.
//   - An outage of what a handler calls pauses its route and dead-letters nothing.
//   - A shutdown or a rebalance spends no try and writes no dead letter.
//   - A missing topic, a refused permission and a failed login are named, in errors or in [Health], and recover by themselves.
//   - No payload, key or secret is in a log, a metric or an error text of this package.
//
// README has what each of them costs, and what is not there yet.
//
// # Stopping
//
// End the ctx of [Bus.Run]: it stops fetching, lets running handlers end, commits, leaves its groups and returns nil. Then call
// [Bus.Shutdown], which waits for the events that are still on their way and closes the connections; it drains what still runs.
// [Bus.ScaleDown] is the same for a process that will not be back: see [Subscription.InstanceID].
//
//	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//	defer stop()
//	err := bus.Run(ctx, sub)
//	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//	defer cancel()
//	err = errors.Join(err, bus.Shutdown(ctx))
//
// # Testing
//
// Package bustest gives a test a bus on a broker inside the process, and package embedded is that broker.
package eventbus
