package kernels

import (
	"os"
	"path/filepath"
	"testing"

	"banger/internal/base/errs"
)

func TestDelete(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	k, err := s.Default(t.Context(), nil)
	check(t, err)
	store := s.o.Store.(*memoryStore)
	store.used = []string{k.Name}
	if _, err := s.Delete(t.Context(), k.Name); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a kernel in use: %v", err)
	}
	check(t, onDisk(k))
	if exists(filepath.Join(filepath.Dir(k.Path), fileDeleting)) {
		t.Error("a kernel in use is marked as being deleted")
	}
	store.used = nil
	if got, err := s.Delete(t.Context(), k.Name); err != nil || got.Bytes != k.Bytes {
		t.Errorf("%+v, %v", got, err)
	}
	if l := left(t, s); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
	if _, err := s.Delete(t.Context(), k.Name); errs.KindOf(err) != errs.NotFound || errs.HintOf(err) == "" {
		t.Errorf("a second time: %v", err)
	}
	if _, err := s.Default(t.Context(), nil); err != nil {
		t.Errorf("made again: %v", err)
	}
}

func TestDeleteOfAKilledDaemonIsEnded(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	k, err := s.Default(t.Context(), nil)
	check(t, err)
	mark := filepath.Join(filepath.Dir(k.Path), fileDeleting)
	// Killed before the record went: the kernel stays.
	check(t, os.WriteFile(mark, nil, 0o600))
	s = New(s.o)
	if err := onDisk(k); err != nil || exists(mark) {
		t.Errorf("before the record went: %v", err)
	}
	// Killed after it went: the files go.
	check(t, os.WriteFile(mark, nil, 0o600))
	check(t, s.o.Store.DeleteKernel(t.Context(), k.Name))
	s = New(s.o)
	if l := left(t, s); len(l) > 0 {
		t.Errorf("after the record went, left behind: %q", l)
	}
}
