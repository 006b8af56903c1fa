package service

import (
	"context"
	"fmt"
	"sync"
)

// Keys locks single things, such as one booking, from the decision over the publishing to the change of state, while others go on. Its
// zero value is ready to use.
type Keys struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	held  chan struct{} // holds one token while locked
	users int           // who holds it or waits for it
}

// Lock waits for key until ctx ends. The caller must unlock, once.
func (k *Keys) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l := k.join(key)
	select {
	case l.held <- struct{}{}:
		return func() {
			<-l.held
			k.leave(key, l)
		}, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, fmt.Errorf("another change is under way: %w", context.Cause(ctx))
	}
}

func (k *Keys) join(key string) *keyLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.locks[key]
	if l == nil {
		l = &keyLock{held: make(chan struct{}, 1)}
		if k.locks == nil {
			k.locks = map[string]*keyLock{}
		}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *Keys) leave(key string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.users--
	if l.users == 0 {
		delete(k.locks, key)
	}
}
