package bustest

import "github.com/twmb/franz-go/pkg/kmsg"

// Request is a kind of request, by the name that Kafka's protocol has for it.
type Request int

const (
	Any                    Request = iota // every kind
	Produce                               // publishing; names topics
	Fetch                                 // names topics: those of its connection's fetch session (KIP-227)
	ListOffsets                           // names topics
	Metadata                              // names topics; that of all topics names any
	CreateTopics                          // names topics
	InitProducerID                        // the first of a producer
	FindCoordinator                       // names groups
	JoinGroup                             // names a group
	SyncGroup                             // names a group
	Heartbeat                             // names a group
	LeaveGroup                            // names a group
	ConsumerGroupHeartbeat                // names a group; the one of KIP-848
	OffsetCommit                          // names a group and topics
	OffsetFetch                           // names groups and topics
	AddPartitionsToTxn                    // names topics
	AddOffsetsToTxn                       // names a group
	TxnOffsetCommit                       // names a group and topics
	EndTxn                                // ends a transaction
)

// kind is what there is to know of a Request.
type kind struct {
	name           string
	key            kmsg.Key
	topics, groups bool
}

func (r Request) kind() (kind, bool) {
	kinds := [...]kind{
		Any:                    {"Any", -1, true, true},
		Produce:                {"Produce", kmsg.Produce, true, false},
		Fetch:                  {"Fetch", kmsg.Fetch, true, false},
		ListOffsets:            {"ListOffsets", kmsg.ListOffsets, true, false},
		Metadata:               {"Metadata", kmsg.Metadata, true, false},
		CreateTopics:           {"CreateTopics", kmsg.CreateTopics, true, false},
		InitProducerID:         {"InitProducerID", kmsg.InitProducerID, false, false},
		FindCoordinator:        {"FindCoordinator", kmsg.FindCoordinator, false, true},
		JoinGroup:              {"JoinGroup", kmsg.JoinGroup, false, true},
		SyncGroup:              {"SyncGroup", kmsg.SyncGroup, false, true},
		Heartbeat:              {"Heartbeat", kmsg.Heartbeat, false, true},
		LeaveGroup:             {"LeaveGroup", kmsg.LeaveGroup, false, true},
		ConsumerGroupHeartbeat: {"ConsumerGroupHeartbeat", kmsg.ConsumerGroupHeartbeat, false, true},
		OffsetCommit:           {"OffsetCommit", kmsg.OffsetCommit, true, true},
		OffsetFetch:            {"OffsetFetch", kmsg.OffsetFetch, true, true},
		AddPartitionsToTxn:     {"AddPartitionsToTxn", kmsg.AddPartitionsToTxn, true, false},
		AddOffsetsToTxn:        {"AddOffsetsToTxn", kmsg.AddOffsetsToTxn, false, true},
		TxnOffsetCommit:        {"TxnOffsetCommit", kmsg.TxnOffsetCommit, true, true},
		EndTxn:                 {"EndTxn", kmsg.EndTxn, false, false},
	}
	if r < 0 || int(r) >= len(kinds) {
		return kind{}, false
	}
	return kinds[r], true
}
