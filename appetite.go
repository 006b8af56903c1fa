package eventbus

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// appetite is how many bytes of a partition are fetched at once. A compressed megabyte may be many more events than there is room for: the client drops what
// is left of it when the partition is paused, fetches it again, and decompresses it again; and handlers may have nothing to do meanwhile.
type appetite struct {
	most, now int32 // bytes of a partition
	fetch     int32 // of all partitions of a broker
	changed   time.Time
}

const (
	leastFetched  = 64 << 10
	appetiteGrows = 10 * time.Second // after it was last too much
)

func newAppetite(client *kgo.Client) appetite {
	most, _ := client.OptValue(kgo.FetchMaxPartitionBytes).(int32)
	fetch, _ := client.OptValue(kgo.FetchMaxBytes).(int32)
	return appetite{most: most, now: most, fetch: fetch}
}

// lessen halves it where so many records are dropped that they were to no purpose: more than half of the room. Once for all partitions that are paused together.
func (a *appetite) lessen(client *kgo.Client, room int) {
	if a.now/2 >= leastFetched && client.BufferedFetchRecords() > int64(room/2) && time.Since(a.changed) >= fetchMaxWait {
		a.set(client, a.now/2)
	}
}

// grow doubles it when it has not been too much for a while.
func (a *appetite) grow(client *kgo.Client) {
	if a.now < a.most && time.Since(a.changed) >= appetiteGrows {
		a.set(client, min(2*a.now, a.most))
	}
}

func (a *appetite) set(client *kgo.Client, n int32) {
	a.now, a.changed = n, time.Now()
	client.UpdateFetchMaxBytes(a.fetch, n)
}
