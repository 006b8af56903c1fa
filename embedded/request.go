package embedded

import (
	"encoding/binary"
	"reflect"
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// header is a request's first part.
type header struct {
	raw         []byte // as it was sent
	correlation int32
	client      string
	message     kmsg.Request // not read yet; nil: of no known kind
}

// readHeader returns the header of a request without its size, and the rest.
func readHeader(request []byte) (header, []byte) {
	b := kbin.Reader{Src: request}
	key, version := b.Int16(), b.Int16()
	h := header{correlation: b.Int32()}
	if client := b.NullableString(); client != nil {
		h.client = *client
	}
	message := kmsg.RequestForKey(key)
	if message == nil {
		return h, nil
	}
	message.SetVersion(version)
	if message.IsFlexible() {
		kmsg.SkipTags(&b)
	}
	if !b.Ok() {
		return h, nil
	}
	h.raw, h.message = request[:len(request)-len(b.Src)], message
	return h, b.Src
}

// append returns the request with its size, to be sent on.
func (h header) append(message kmsg.Request) []byte {
	frame := slices.Concat(make([]byte, sizeBytes), h.raw)
	frame = message.AppendTo(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-sizeBytes)) // #nosec G115 -- about as long as what was read, an int32
	return frame
}

// fetched is a partition of a fetch session, its topic by name or by id.
type fetched struct {
	topic     string
	id        [16]byte
	partition int32
}

// follow notes what a connection fetches: a request of a session under way names only what changed (KIP-227). Each franz-go client
// has one such session a connection, and begins a new one where that breaks.
func (r *Request) follow() {
	fetch, ok := r.Message.(*kmsg.FetchRequest)
	if !ok {
		return
	}
	if fetch.SessionEpoch <= 0 {
		clear(r.fetching)
	}
	for _, t := range fetch.ForgottenTopics {
		for _, p := range t.Partitions {
			delete(r.fetching, fetched{t.Topic, t.TopicID, p})
		}
	}
	for _, t := range fetch.Topics {
		for _, p := range t.Partitions {
			r.fetching[fetched{t.Topic, t.TopicID, p.Partition}] = true
		}
	}
}

// NamesTopic says whether the request is about a topic, by its name in Kafka: one of those it names, by name or id; one that its
// connection fetches; any, where it asks for the metadata of all.
func (r *Request) NamesTopic(topic string) bool {
	switch m := r.Message.(type) {
	case *kmsg.FetchRequest:
		for f := range r.fetching {
			if f.topic == topic || f.topic == "" && r.wire.topicName(f.id) == topic {
				return true
			}
		}
		return false
	case *kmsg.MetadataRequest:
		if m.Topics == nil {
			return true
		}
	}
	return r.namesTopic(reflect.ValueOf(r.Message).Elem(), topic)
}

// namesTopic looks into a struct of kmsg, all of which call a topic Topic or TopicID and a list of them Topics.
func (r *Request) namesTopic(v reflect.Value, topic string) bool {
	for field, value := range v.Fields() {
		switch x := value.Interface().(type) {
		case string:
			if field.Name == "Topic" && x == topic {
				return true
			}
		case *string:
			if field.Name == "Topic" && x != nil && *x == topic {
				return true
			}
		case [16]byte:
			if field.Name == "TopicID" && r.wire.topicName(x) == topic {
				return true
			}
		default:
			if r.listsTopic(field.Name, value, topic) {
				return true
			}
		}
	}
	return false
}

func (r *Request) listsTopic(field string, list reflect.Value, topic string) bool {
	if !slices.Contains([]string{"Topics", "Groups", "Transactions"}, field) || list.Kind() != reflect.Slice {
		return false
	}
	for _, element := range list.Seq2() {
		if element.Kind() == reflect.Struct && r.namesTopic(element, topic) {
			return true
		}
	}
	return false
}

// NamesGroup says whether the request is about a group, by its name in Kafka.
func (r *Request) NamesGroup(group string) bool {
	switch m := r.Message.(type) {
	case *kmsg.FindCoordinatorRequest:
		return m.CoordinatorType == 0 && (m.CoordinatorKey == group || slices.Contains(m.CoordinatorKeys, group))
	case *kmsg.OffsetFetchRequest:
		return m.Group == group || slices.ContainsFunc(m.Groups, func(g kmsg.OffsetFetchRequestGroup) bool { return g.Group == group })
	}
	named := reflect.ValueOf(r.Message).Elem().FieldByName("Group")
	return named.Kind() == reflect.String && named.String() == group
}
