package engine

import "github.com/dreamscape/eventbus/internal/progress"

// Commit is what there is to commit of a partition.
type Commit[T any] struct {
	Part   *Partition[T]
	Offset int64
	Epoch  int32
	Map    progress.Map // what is done above Offset
	says   uint64
}

// Commit returns what there is to commit of a partition; false for one that is not owned and where nothing has changed since the last
// commit that was acknowledged. lineage names the topic of that name that the offsets belong to.
//
// The caller must see to it that no ownership ends between this and the broker's answer: a commit that arrives after its partition went
// to another member would rewind that member, and no broker refuses it.
func (e *Engine[T]) Commit(p *Partition[T], lineage uint32) (Commit[T], bool) {
	c := Commit[T]{Part: p, Offset: p.progress.Watermark(), Epoch: p.progress.Epoch(), says: p.progress.Changes()}
	if e.bug == CommitHighest {
		c.Offset = p.progress.Head()
	}
	if !p.owned || !p.passed || c.says == p.said || c.Offset < p.committed {
		return Commit[T]{}, false
	}
	c.Map = p.progress.Map(lineage)
	return c, true
}

// Recommit has the next commit say where the partition is, though that was said before: something else depends on it. It has to have begun.
func (e *Engine[T]) Recommit(p *Partition[T]) { p.taken, p.passed, p.said = true, true, never }

// never is no number of changes.
const never = ^uint64(0)

// Committed notes that the broker has acknowledged a commit.
func (e *Engine[T]) Committed(c Commit[T]) {
	c.Part.committed, c.Part.said = c.Offset, c.says
}
