package disklock

import (
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/errs"
)

func TestOneWriterOrManyReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if held, _, err := Holder(path); held || err != nil {
		t.Errorf("a missing file: %t, %v", held, err)
	}
	w, err := Take(path, "banger disk cp (process 17)")
	if err != nil {
		t.Fatal(err)
	}
	if held, who, err := Holder(path); !held || who != "banger disk cp (process 17)" || err != nil {
		t.Errorf("held by a writer: %t, %q, %v", held, who, err)
	}
	for name, take := range map[string]func(string, string) (f interface{ Close() error }, err error){
		"Take":  func(p, who string) (interface{ Close() error }, error) { return Take(p, who) },
		"Share": func(p, who string) (interface{ Close() error }, error) { return Share(p, who) },
	} {
		if _, err := take(path, ""); errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "banger disk cp (process 17)") || errs.HintOf(err) == "" {
			t.Errorf("%s while it is held: %v", name, err)
		}
	}
	if err := Busy(path); errs.KindOf(err) != errs.Conflict {
		t.Errorf("Busy: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Busy(path); err != nil {
		t.Errorf("Busy of a free lock: %v", err)
	}
	var readers []interface{ Close() error }
	for range 2 {
		r, err := Share(path, "a reader")
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if held, _, err := Holder(path); held || err != nil {
		t.Errorf("shared: %t, %v", held, err)
	}
	if _, err := Take(path, ""); errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "a reader") {
		t.Errorf("Take beside readers: %v", err)
	}
	if err := Busy(path); errs.KindOf(err) != errs.Conflict {
		t.Errorf("Busy beside readers: %v", err)
	}
	for _, r := range readers {
		_ = r.Close()
	}
	// A VM has no word, and the last holder's is gone.
	v, err := Take(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if held, who, _ := Holder(path); !held || who != "" {
		t.Errorf("held by a VM: %t, %q", held, who)
	}
}
