package kernels

import (
	"context"
	"slices"
	"sync"

	"banger/internal/vm"
)

// memoryStore is a Store in memory.
type memoryStore struct {
	mu  sync.Mutex
	all []vm.Kernel
	err error // returned by PutKernel if set
}

func (m *memoryStore) PutKernel(_ context.Context, k vm.Kernel) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.all = slices.DeleteFunc(m.all, func(x vm.Kernel) bool { return x.Release == k.Release })
	m.all = slices.Insert(m.all, 0, k)
	return nil
}

func (m *memoryStore) Kernels(context.Context) ([]vm.Kernel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all), nil
}
