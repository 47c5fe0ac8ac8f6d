package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// aptRoot makes root/etc/apt of files, by name below it.
func aptRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, "etc", "apt", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDebianSources(t *testing.T) {
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	src := func(uri, suites, signedBy string) Source {
		return Source{URI: uri, Suites: strings.Fields(suites), Components: []string{"main"}, SignedBy: signedBy}
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  []Source
	}{
		"nothing": {},
		"deb822": {
			files: map[string]string{"sources.list.d/debian.sources": `Types: deb deb-src
# a comment amid the fields
URIs: http://one.example.com/debian/ https://two.example.com/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: ` + keyring + `

Types: deb
Enabled: no
URIs: http://off.example.com
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example.com
Suites: bookworm
Components: main
`},
			want: []Source{src("http://one.example.com/debian", "bookworm bookworm-updates", keyring), src("https://two.example.com/debian", "bookworm bookworm-updates", keyring)},
		},
		"one-line": {
			files: map[string]string{"sources.list": `# deb http://comment.example.com x main
deb http://plain.example.com/debian	bookworm main # why
deb [ arch=amd64,arm64 signed-by=` + keyring + ` check-valid-until=no ] http://opt.example.com/ bookworm-security main
deb [arch=arm64] http://arm.example.com bookworm main
deb [signed-by=/x.gpg http://unclosed.example.com bookworm main
deb-src http://source.example.com bookworm main
deb http://flat.example.com ./
deb ftp://old.example.com bookworm main
deb file:/srv/mirror bookworm main
deb
`},
			want: []Source{
				src("http://plain.example.com/debian", "bookworm", ""),
				{URI: "http://opt.example.com", Suites: []string{"bookworm-security"}, Components: []string{"main"}, SignedBy: keyring, IgnoreExpiry: true},
				src("file:/srv/mirror", "bookworm", ""),
			},
		},
		"of others": {
			files: map[string]string{
				"sources.list.d/other.sources":        "Types: deb\nURIs: http://other.example.com\nSuites: x\nComponents: main\nSigned-By: /usr/share/keyrings/other.gpg\n",
				"sources.list.d/inline.sources":       "Types: deb\nURIs: http://inline.example.com\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n",
				"sources.list.d/disabled.list.save":   "deb http://saved.example.com x main\n",
				"sources.list.d/name with space.list": "deb http://space.example.com x main\n",
				"sources.list.d/broken.sources":       " starts in the middle\nTypes: deb\n",
			},
		},
		"mirror list": {
			files: map[string]string{
				"sources.list.d/a.list": "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main\ndeb mirror+file:/../../outside bookworm main\n",
				"mirrors/debian.list":   "# mirrors\nhttps://near.example.com/debian/\tpriority:1\nhttp://far.example.com/debian\n",
			},
			want: []Source{src("https://near.example.com/debian", "bookworm", ""), src("http://far.example.com/debian", "bookworm", "")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DebianSources(aptRoot(t, test.files))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDebianSourcesSaysWhatItCannotRead(t *testing.T) {
	root := aptRoot(t, map[string]string{"sources.list": strings.Repeat("#", maxSourceFile+1)})
	if _, err := DebianSources(root); err == nil || !strings.Contains(err.Error(), "sources.list") {
		t.Errorf("err = %v", err)
	}
}

func TestHostConfig(t *testing.T) {
	got := parseHostConfig("Acquire \"\";\nAcquire::http::Proxy \"http://proxy.example.com:3128\";\nAcquire::https::Proxy \"DIRECT\";\nAcquire::Check-Valid-Until \"false\";\nrubbish\n")
	want := HostConfig{HTTPProxy: "http://proxy.example.com:3128", HTTPSProxy: "DIRECT", IgnoreExpiry: true}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb [arch=amd64] http://a.example.com bookworm main\n")
	f.Add("Types: deb\nURIs: http://a.example.com b\nSuites: x\n y\nComponents: main\n")
	f.Add("deb [")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseList(text), parseSources(text)...) {
			if s.URI == "" && strings.TrimLeft(text, "/") == text || len(s.Suites) == 0 || len(s.Components) == 0 {
				t.Errorf("%+v is not whole", s)
			}
		}
	})
}
