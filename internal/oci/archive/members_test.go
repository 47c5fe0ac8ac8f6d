package archive

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"banger/internal/base/errs"
)

// Documents are kept in memory, so there is a bound on all of them together.
func TestDocumentsAreBounded(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for range 3 {
		if err := w.WriteHeader(&tar.Header{Name: "x.json", Size: 40, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("{" + strings.Repeat(" ", 38) + "}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for room, ok := range map[int64]bool{120: true, 119: false, 0: false} {
		m := newMembers(room)
		err := m.read(t.Context(), bytes.NewReader(b.Bytes()), nil)
		if ok && (err != nil || len(m.documents) != 1) || !ok && (errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "bytes of documents")) {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}
