package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/mmdebstrap"
)

func TestImageSourcesFollowTheHost(t *testing.T) {
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	source := func(uri string, suites ...string) mmdebstrap.Source {
		return mmdebstrap.Source{URI: uri, Suites: suites, Components: []string{"main"}, SignedBy: keyring}
	}
	for name, c := range map[string]struct {
		list string
		want []mmdebstrap.Source
		kind errs.Kind
	}{
		"bookworm beside third parties": {
			list: `deb [signed-by=/usr/share/keyrings/other.gpg] https://third.example.com/deb stable main
deb [signed-by=` + keyring + `] http://a.example.com/debian bookworm main contrib
deb [signed-by=` + keyring + `] http://a.example.com/debian-security bookworm-security main
`,
			want: []mmdebstrap.Source{source("http://a.example.com/debian", "bookworm", "bookworm-updates"), source("http://a.example.com/debian-security", "bookworm-security")},
		},
		"another release, no security": {
			list: "deb http://b.example.com/debian trixie main\n",
			want: []mmdebstrap.Source{source("http://b.example.com/debian", "bookworm", "bookworm-updates")},
		},
		"nothing of Debian": {list: "deb [signed-by=/x.gpg] http://c.example.com/ubuntu noble main\n", kind: errs.Unavailable},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc/apt"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc/apt/sources.list"), []byte(c.list), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := imageSources(root, "bookworm")
		if c.kind != "" && errs.KindOf(err) != c.kind || c.kind == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(got, c.want); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
