package vm_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// TestCommand has the table of docker run: image, --entrypoint, arguments.
func TestCommand(t *testing.T) {
	both := &vm.ImageConfig{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"serve", "now"}}
	for name, c := range map[string]struct {
		image      *vm.ImageConfig
		entrypoint *string
		args, want []string
	}{
		"no configuration":         {nil, nil, nil, nil},
		"no configuration, args":   {nil, nil, []string{"ls", "-l"}, []string{"ls", "-l"}},
		"no configuration, entry":  {nil, new("ls"), []string{"-l"}, []string{"ls", "-l"}},
		"both":                     {both, nil, nil, []string{"/entry", "-x", "serve", "now"}},
		"args replace Cmd":         {both, nil, []string{"stop"}, []string{"/entry", "-x", "stop"}},
		"an entrypoint drops Cmd":  {both, new("sh"), nil, []string{"sh"}},
		"an entrypoint and args":   {both, new("sh"), []string{"-c", "id"}, []string{"sh", "-c", "id"}},
		"no entrypoint: a shell":   {both, new(""), nil, nil},
		"no entrypoint, args":      {both, new(""), []string{"id"}, []string{"id"}},
		"only Cmd":                 {&vm.ImageConfig{Cmd: []string{"bash"}}, nil, nil, []string{"bash"}},
		"only Cmd, args":           {&vm.ImageConfig{Cmd: []string{"bash"}}, nil, []string{"id"}, []string{"id"}},
		"only an entrypoint":       {&vm.ImageConfig{Entrypoint: []string{"/app"}}, nil, nil, []string{"/app"}},
		"an empty entrypoint":      {&vm.ImageConfig{Entrypoint: []string{""}, Cmd: []string{"id"}}, nil, nil, []string{"id"}},
		"an argument that is none": {both, nil, []string{""}, []string{"/entry", "-x", ""}},
	} {
		if got := c.image.Command(c.entrypoint, c.args); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if want := []string{"/entry", "-x"}; !slices.Equal(both.Entrypoint, want) || cap(both.Entrypoint) != len(want) {
		t.Errorf("the image's entrypoint became %q", both.Entrypoint)
	}
}

func TestEnviron(t *testing.T) {
	image := &vm.ImageConfig{Env: []string{"PATH=/app/bin", "A=1", "broken", "=x", "B=2", "A=3"}}
	for name, c := range map[string]struct {
		image         *vm.ImageConfig
		changes, want []string
	}{
		"none":        {nil, nil, nil},
		"only ours":   {nil, []string{"A=1", "B", "A=2"}, []string{"A=2"}},
		"the image's": {image, nil, []string{"PATH=/app/bin", "A=3", "B=2"}},
		"changed":     {image, []string{"A=", "C=a=b"}, []string{"PATH=/app/bin", "A=", "B=2", "C=a=b"}},
		"taken away":  {image, []string{"A", "PATH"}, []string{"B=2"}},
		"set again":   {image, []string{"A", "A=4"}, []string{"PATH=/app/bin", "A=4", "B=2"}},
	} {
		if got := c.image.Environ(c.changes); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOf(rapid.StringMatching(`[ab=]{0,4}`))
		config := &vm.ImageConfig{Env: entries.Draw(t, "image")}
		seen := map[string]bool{}
		for _, entry := range config.Environ(entries.Draw(t, "changes")) {
			key, _, ok := strings.Cut(entry, "=")
			if !ok || key == "" || seen[key] {
				t.Fatalf("the entry %q", entry)
			}
			seen[key] = true
		}
	})
}

func TestImageConfigIsBounded(t *testing.T) {
	for name, c := range map[string]*vm.ImageConfig{
		"large":     {Labels: map[string]string{"a": strings.Repeat("x", vm.MaxImageConfig)}},
		"NUL":       {Cmd: []string{"a\x00b"}},
		"not UTF-8": {Env: []string{"A=\xff"}},
	} {
		if err := c.Check(); errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" {
			t.Errorf("%s: %v, want a refusal with a hint", name, err)
		}
	}
	var none *vm.ImageConfig
	for _, c := range []*vm.ImageConfig{none, {}, {Env: []string{"A=ä"}, WorkingDir: "/", Volumes: []string{"/data"}}} {
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestImageConfigSurvivesJSON(t *testing.T) {
	want := vm.ImageConfig{
		Env: []string{"A=1"}, WorkingDir: "/w", User: "u:g", Entrypoint: []string{"/e"}, Cmd: []string{"c", ""}, StopSignal: "SIGINT",
		ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/v"}, Labels: map[string]string{"l": "1"},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got vm.ImageConfig
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Error(d)
	}
	want.Labels = nil
	if d := cmp.Diff(got.ForVM(), &want); d != "" || got.Labels == nil {
		t.Errorf("for a VM: %s; labels left in the image %v", d, got.Labels)
	}
}

func TestDirIsFromTheRoot(t *testing.T) {
	for dir, want := range map[string]string{"": "/", "app": "/app", "/a/../b/": "/b", "../..": "/"} {
		if got := (&vm.ImageConfig{WorkingDir: dir}).Dir(); got != want {
			t.Errorf("Dir of %q = %q, want %q", dir, got, want)
		}
	}
}
