package kernels

import (
	"context"
	"slices"
	"sync"
	"time"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// memoryStore is a Store in memory.
type memoryStore struct {
	mu  sync.Mutex
	all []vm.Kernel
	err error // returned by PutKernel if set
	// used names the kernels that VMs use.
	used  []string
	dates map[string]time.Time
}

func (m *memoryStore) DeleteKernel(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.used, name) {
		return errs.New(errs.Conflict, "the kernel %q is in use", name)
	}
	m.all = slices.DeleteFunc(m.all, func(x vm.Kernel) bool { return x.Name == name })
	return nil
}

func (m *memoryStore) IndexDate(_ context.Context, suite string) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dates[suite], nil
}

func (m *memoryStore) PutIndexDate(_ context.Context, suite string, date time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dates == nil {
		m.dates = map[string]time.Time{}
	}
	m.dates[suite] = date
	return nil
}

func (m *memoryStore) PutKernel(_ context.Context, k vm.Kernel) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.all = slices.DeleteFunc(m.all, func(x vm.Kernel) bool { return x.Name == k.Name })
	m.all = slices.Insert(m.all, 0, k)
	return nil
}

func (m *memoryStore) Kernels(context.Context) ([]vm.Kernel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all), nil
}
