package eventbus_test

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What kfake does otherwise than a broker does, and a simulation must not stumble over.

// keepEpochs answers OffsetForLeaderEpoch as a broker does. kfake knows only the epochs that have records: asked for the last of them after the
// leader has moved and before anything was published, it answers that it does not know it, and the client takes that for a loss of data and reads
// everything again. Nothing is ever cut off a kfake log, so every epoch that was ends at its end at the earliest.
func keepEpochs(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, t := range req.Topics {
			topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				topic.Partitions = append(topic.Partitions, epochEnd(cluster, t.Topic, p))
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
}

func epochEnd(
	cluster *kfake.Cluster, topic string, p kmsg.OffsetForLeaderEpochRequestTopicPartition,
) kmsg.OffsetForLeaderEpochResponseTopicPartition {
	end := kmsg.NewOffsetForLeaderEpochResponseTopicPartition() // -1 and -1: an epoch that never was
	end.Partition = p.Partition
	switch info := cluster.PartitionInfo(topic, p.Partition); {
	case info == nil:
		end.ErrorCode = kerr.UnknownTopicOrPartition.Code
	case info.Leader != cluster.CurrentNode():
		end.ErrorCode = kerr.NotLeaderForPartition.Code
	case p.CurrentLeaderEpoch >= 0 && p.CurrentLeaderEpoch < info.Epoch:
		end.ErrorCode = kerr.FencedLeaderEpoch.Code
	case p.CurrentLeaderEpoch > info.Epoch:
		end.ErrorCode = kerr.UnknownLeaderEpoch.Code
	case p.LeaderEpoch <= info.Epoch:
		end.LeaderEpoch, end.EndOffset = p.LeaderEpoch, info.HighWatermark
	}
	return end
}

// boundRebalances has a rebalance end some time. In kfake every join begins the wait for the others anew, for RebalanceTimeout; where members come
// and others repeat their joins, it never ends. A broker waits once (org.apache.kafka.coordinator.group, DelayedJoin). So joins that the rebalance
// does not wait for, of new members and repeated ones, are put off once it has lasted for a few seconds; the client asks again.
func boundRebalances(cluster *kfake.Cluster) {
	const open = 5 * time.Second
	var (
		mu     sync.Mutex
		round  int32           = -1 // the generation before it
		began  time.Time            // when its first join came
		joined map[string]bool      // by member id
	)
	cluster.ControlKey(int16(kmsg.JoinGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		req, info := r.(*kmsg.JoinGroupRequest), cluster.GroupInfo(simGroup)
		if info == nil || info.State != "PreparingRebalance" {
			return nil, nil, false
		}
		if round != info.Epoch {
			round, began, joined = info.Epoch, time.Now(), map[string]bool{}
		}
		member := false
		for _, m := range info.Members {
			member = member || m.MemberID == req.MemberID
		}
		if member && !joined[req.MemberID] || time.Since(began) < open {
			joined[req.MemberID] = true
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return resp, nil, true
	})
}

// silence is after which time without a request a session is over, whatever befell it: a broker would have ended it before, also when the rebalance
// that it waited for took its time.
const silence = 45 * time.Second

// endSilent ends sessions that kfake forgets: by the classic protocol it times none whose connection was gone when it was to learn that it had joined.
func endSilent(cluster *kfake.Cluster, watch *groupWatch, asks *kgo.Client) {
	info := cluster.GroupInfo(simGroup)
	if info == nil {
		return
	}
	for _, m := range info.Members {
		if watch.serverSide || watch.silentFor(m.MemberID) < silence {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		leaving := kmsg.NewLeaveGroupRequestMember()
		leaving.MemberID, leaving.InstanceID = m.MemberID, m.InstanceID
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group, req.Members = simGroup, append(req.Members, leaving)
		_, _ = req.RequestWith(ctx, asks) // asked again in a second
		cancel()
	}
}
