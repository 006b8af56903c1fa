// Package doors tries services and operators behind locked doors: each works with exactly the permissions that its Access lists, and with no one
// of them left out. It knows no virtual time and no fake, so that the same check runs on kfake and on Apache Kafka.
package doors

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dreamscape/eventbus"
)

// Backend is a Kafka that enforces permissions and whose users log in by SCRAM-SHA-512. All fields are required, but TopicPrefix.
type Backend struct {
	// Bus connects without a login; the check fills in who, and TopicPrefix.
	Bus eventbus.Config
	// Client are Bus's connections for a client beside the bus: addresses, TLS.
	Client []kgo.Opt
	// Admin is a user who may do everything, and AdminPassword is for it.
	Admin, AdminPassword string
	// TopicPrefix keeps what the check makes apart from others on the same cluster.
	TopicPrefix string
	// Log is told what has been tried.
	Log func(format string, args ...any)
}

// Service is what is tried. Its Access publishes, and handles one subscription at most; or it is an operator's, and makes, redrives, purges
// and reads.
type Service struct {
	Name   string
	Access eventbus.Access
	// Change makes another list of it, to see what the check says. nil: none.
	Change func([]eventbus.Permission) []eventbus.Permission
}

// patience bounds every wait for what must come; a real cluster on a loaded machine takes its time.
const patience = time.Minute

// house is a backend with the topics of a service.
type house struct {
	Backend
	Service
	samples samples
	admin   *kadm.Client
	boss    *eventbus.Bus // of Admin
	trials  int
}

// Check tries a service with all of its permissions, by both group protocols, and then without each of them. It returns what was not as it
// should be.
func Check(ctx context.Context, b Backend, s Service) error {
	h := &house{Backend: b, Service: s, samples: newSamples()}
	client, err := kgo.NewClient(append(b.Client, kgo.SASL(login(b.Admin, b.AdminPassword)))...)
	if err != nil {
		return err
	}
	defer client.Close()
	h.admin = kadm.NewClient(client)
	if h.boss, err = eventbus.New(h.config(b.Admin, b.AdminPassword, b.TopicPrefix)); err != nil {
		return err
	}
	defer shutdown(ctx, h.boss) // what it published is acknowledged
	if err := h.check(ctx); err != nil || s.operates() {
		return err
	}
	return h.checkByTheBroker(ctx)
}

func shutdown(ctx context.Context, bus *eventbus.Bus) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = bus.Shutdown(ctx) // an event that was refused is given up by it
}

// checkByTheBroker tries the complete list with a group that the broker shares out (KIP-848), which is another one: a group keeps its protocol.
func (h *house) checkByTheBroker(ctx context.Context) error {
	h.Access.Handles = slices.Clone(h.Access.Handles)
	for i := range h.Access.Handles {
		h.Access.Handles[i].Group += ".by-the-broker"
		h.Access.Handles[i].Protocol = eventbus.ProtocolConsumer
	}
	if err := h.newTrial().try(ctx); err != nil {
		return fmt.Errorf("%s with all of its permissions, its group shared out by the broker: %w", h.Name, err)
	}
	return nil
}

func login(user, password string) sasl.Mechanism {
	return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
}

// topics are those that the service uses.
func (h *house) topics() []eventbus.AnyTopic {
	topics := append([]eventbus.AnyTopic{}, h.Access.Publishes...)
	for _, s := range h.Access.Handles {
		topics = append(topics, s.Topics()...)
	}
	return topics
}

func (h *house) check(ctx context.Context) error {
	all := h.newTrial()
	if err := all.try(ctx); err != nil {
		return fmt.Errorf("%s with all of its permissions: %w", h.Name, err)
	}
	var errs []error
	for i := range all.list {
		t := h.newTrial()
		p := t.leaveOut(i)
		err := t.try(ctx)
		switch {
		case err == nil:
			errs = append(errs, fmt.Errorf("%s needs no %v: it works without", h.Name, p))
		case !Names(err, p):
			errs = append(errs, fmt.Errorf("%s without %v: the error names something else: %w", h.Name, p, err))
		default:
			h.Log("without %v: %v", p, err)
		}
	}
	return errors.Join(errs...)
}

// Names says whether an error names what a permission is for, and not only what has a name that begins like it.
func Names(err error, p eventbus.Permission) bool {
	if err == nil {
		return false
	}
	end := "($|[^a-zA-Z0-9._-])"
	if p.Prefixed {
		end = ""
	}
	return regexp.MustCompile(`\b` + p.Resource + " " + regexp.QuoteMeta(p.Name) + end).MatchString(err.Error())
}

// admit makes a user and waits until brokers know what it may do: both reach them asynchronously, in the order in which they are made. What
// they do not tell of comes first.
func (h *house) admit(ctx context.Context, user, password string, list []eventbus.Permission) error {
	told := slices.DeleteFunc(slices.Clone(list), func(p eventbus.Permission) bool { return !isTold(p, list) })
	list = append(slices.DeleteFunc(slices.Clone(list), func(p eventbus.Permission) bool { return isTold(p, list) }), told...)
	made, err := h.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{
		{User: user, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password},
	})
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		return err
	}
	for _, p := range list {
		acl, err := p.ACL("User:" + user)
		if err != nil {
			return err
		}
		created, err := h.admin.CreateACLs(ctx, acl)
		if err != nil {
			return err
		}
		for _, c := range created {
			if c.Err != nil {
				return fmt.Errorf("%v: %w", p, c.Err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, "its permissions are known", func() (bool, error) { return h.knows(ctx, user, password, told), nil })
}

// isTold says whether brokers tell a user of a permission: the list has to allow it to describe what that is for.
func isTold(p eventbus.Permission, list []eventbus.Permission) bool {
	return p.Resource == "group" || slices.ContainsFunc(list, func(q eventbus.Permission) bool {
		return q.Resource == p.Resource && q.Name == p.Name && q.Operation != "CREATE" && q.Operation != "DESCRIBE_CONFIGS"
	})
}

// knows says whether the user may do what is listed, as far as brokers tell of topics and groups (KIP-430).
func (h *house) knows(ctx context.Context, user, password string, list []eventbus.Permission) bool {
	client, err := kgo.NewClient(append(h.Client, kgo.SASL(login(user, password)))...)
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, p := range list {
		op, err := kmsg.ParseACLOperation(p.Operation)
		if err != nil {
			return false
		}
		allowed, err := allowedOn(ctx, client, p)
		if err != nil || allowed&(1<<op) == 0 {
			return false
		}
	}
	return true
}

func allowedOn(ctx context.Context, client *kgo.Client, p eventbus.Permission) (int32, error) {
	if p.Resource == "group" {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups, req.IncludeAuthorizedOperations = []string{p.Name}, true
		resp, err := req.RequestWith(ctx, client)
		if err != nil || len(resp.Groups) != 1 {
			return 0, errors.Join(err, errors.New("no answer"))
		}
		if resp.Groups[0].ErrorCode == kerr.GroupIDNotFound.Code {
			return 1 << kmsg.ACLOperationRead, nil // it may be described, by the only permission that there is for it: to read
		}
		return resp.Groups[0].AuthorizedOperations, nil
	}
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(p.Name)
	req.Topics, req.IncludeTopicAuthorizedOperations = append(req.Topics, topic), true
	resp, err := req.RequestWith(ctx, client)
	if err != nil || len(resp.Topics) != 1 {
		return 0, errors.Join(err, errors.New("no answer"))
	}
	return resp.Topics[0].AuthorizedOperations, nil
}

// until asks again and again until it is true, ctx ends, or there is an error.
func until(ctx context.Context, what string, true func() (bool, error)) error {
	for {
		is, err := true()
		if is || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not so by then", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
