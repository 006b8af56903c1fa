package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GroupProtocol is how a group shares out its partitions. All members of a group must have the same.
type GroupProtocol int

const (
	// ProtocolClassic has the members share out, cooperatively and stickily (KIP-429): a rebalance stops only the partitions that move.
	ProtocolClassic GroupProtocol = iota
	// ProtocolConsumer has the broker share out (KIP-848). It needs Kafka 4.0; with one before 4.3 a commit may fail now and then, and is
	// made again. The session's timeout is the broker's (group.consumer.session.timeout.ms, 45 s by default); [Subscription.SessionTimeout] only says
	// when the member gives its partitions up, and should not be longer.
	ProtocolConsumer
)

// membership are the options of a member of the group.
func (c *consumer) membership() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.group),
		kgo.SessionTimeout(c.sub.SessionTimeout),
		kgo.RebalanceTimeout(c.sub.RebalanceTimeout),
		kgo.HeartbeatInterval(min(heartbeatInterval, c.sub.SessionTimeout/3)),
	}
	if c.sub.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(c.sub.InstanceID))
	}
	if c.sub.Protocol == ProtocolConsumer {
		return append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	}
	return append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

// OnGroupManageError is called by the client when its session with the group has failed; it joins again by itself.
func (c *consumer) OnGroupManageError(err error) {
	c.mu.Lock()
	c.joined = false
	c.mu.Unlock()
	named := fmt.Errorf("group %s: %w", c.group, err)
	switch {
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		named = fmt.Errorf("%w (a client of another kind, such as kafkajs, is a member: move a group as a whole)", named)
	case errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.UnreleasedInstanceID):
		named = fmt.Errorf("%w (Subscription.InstanceID %q: another process has it too; each needs its own)", named, c.sub.InstanceID)
	}
	c.trouble("group", named)
}

// leave leaves the group and closes the client. Leaving waits for a rebalance under way and closing for a broker that is frozen, so
// both are bounded; a client that is left closing ends by itself. A static member stays in the group, for its next start.
func (c *consumer) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	c.client.AllowRebalance()
	if err := c.leaveGroup(ctx); err != nil {
		c.log.Warn("leaving the group failed; its partitions are free after SessionTimeout", "error", err)
	}
	waitFor(c.closeClient, drainGrace)
}

// closeClient closes the client. The last thing that it does is to poll (franz-go 1.22), and its leaving, which may not have come to that yet, would wait
// for that poll for ever.
func (c *consumer) closeClient() {
	c.client.CloseAllowingRebalance()
	c.client.AllowRebalance()
}

func (c *consumer) leaveGroup(ctx context.Context) error {
	if c.sub.InstanceID == "" {
		return c.client.LeaveGroupContext(ctx)
	}
	member, _ := c.client.GroupMetadata()
	member = cmp.Or(member, c.lastSession().member)
	static := staticMember{group: c.group, instance: c.sub.InstanceID, member: member, protocol: c.sub.Protocol}
	if member != "" { // it was one; without an id, whoever has the instance's place would be put out
		c.bus.noteStatic(static)
	}
	err := c.client.LeaveGroupContext(ctx)
	if c.sub.Protocol != ProtocolConsumer || member == "" {
		return err
	}
	// The client's own goodbye (franz-go 1.22) lacks the instance's id, so Kafka refuses it, and the next start would have to wait for the
	// session to time out.
	return static.leaveConsumer(ctx, c.client, awayEpoch)
}

// The epochs of a last heartbeat (KIP-848): gone for good, or a static member that will be back.
const (
	goneEpoch = -1
	awayEpoch = -2
)

// staticMember is one that has ended and is still in its group.
type staticMember struct {
	group, instance, member string
	protocol                GroupProtocol
}

func (b *Bus) noteStatic(m staticMember) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.statics = append(b.statics, m)
}

// ScaleDown is [Bus.Shutdown] for a process that will not come back: the static members of this bus ([Subscription.InstanceID]), those of
// Runs that have ended before included, leave their groups, so that others get their partitions at once and not after SessionTimeout. For
// ordinary members the two are the same. It must come in place of Shutdown; after one, it does nothing.
func (b *Bus) ScaleDown(ctx context.Context) error {
	return b.shutdown(ctx, b.leaveForGood)
}

// leaveForGood has the static members leave. The error names the groups that they are still in.
func (b *Bus) leaveForGood(ctx context.Context) error {
	b.mu.Lock()
	statics := b.statics
	b.mu.Unlock()
	var errs []error
	for _, m := range statics {
		_, err := bounded(ctx, func() (bool, error) { return true, m.leave(ctx, b.client) })
		if err != nil {
			errs = append(errs, fmt.Errorf("eventbus: group %s: the static member %s is still in it, until its session times out: %w",
				m.group, m.instance, b.withCause(err)))
		}
	}
	return errors.Join(errs...)
}

// leave sends what the client itself does not: it keeps static members in.
func (m staticMember) leave(ctx context.Context, client *kgo.Client) error {
	if m.protocol == ProtocolConsumer {
		return m.leaveConsumer(ctx, client, goneEpoch)
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = m.group
	leaving := kmsg.NewLeaveGroupRequestMember()
	leaving.MemberID, leaving.InstanceID = m.member, kmsg.StringPtr(m.instance) // not another process that has the instance's place by now
	req.Members = append(req.Members, leaving)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	code := resp.ErrorCode
	for _, r := range resp.Members {
		if code == 0 {
			code = r.ErrorCode
		}
	}
	return goneIsGone(kerr.ErrorForCode(code))
}

// leaveConsumer leaves by a last heartbeat.
func (m staticMember) leaveConsumer(ctx context.Context, client *kgo.Client, epoch int32) error {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.InstanceID, req.MemberEpoch = m.group, m.member, kmsg.StringPtr(m.instance), epoch
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return goneIsGone(kerr.ErrorForCode(resp.ErrorCode))
}

// goneIsGone is no error where the member has left already, or its place is another's.
func goneIsGone(err error) error {
	for _, gone := range []error{kerr.UnknownMemberID, kerr.GroupIDNotFound, kerr.FencedInstanceID} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// minConsumerVersion is the version of ConsumerGroupHeartbeat that Kafka 4.0 brought; the client takes none before it.
const minConsumerVersion = 1

// lookAtProtocol says what is wrong with the brokers for the protocol that was asked for. The client itself would fall back silently.
func (c *consumer) lookAtProtocol(ctx context.Context) error {
	if c.sub.Protocol != ProtocolConsumer {
		return nil
	}
	resp, err := askVersions(ctx, c.bus.client)
	if err != nil {
		return nil // the link knows whether anybody answers
	}
	for _, k := range resp.ApiKeys {
		if kmsg.Key(k.ApiKey) == kmsg.ConsumerGroupHeartbeat && k.MaxVersion >= minConsumerVersion {
			return nil
		}
	}
	return fmt.Errorf("group %s: the broker is too old for ProtocolConsumer, which needs Kafka 4.0 (KIP-848); the group runs by the classic protocol: %w",
		c.group, kerr.UnsupportedVersion)
}
