package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	bangerv1 "banger/api/banger/v1"
	guestv1 "banger/api/guest/v1"
	"banger/internal/vm"
)

// TestTheImageSaysWhatRuns has the command that reaches the agent of a VM of the
// image "app" (see appConfig).
func TestTheImageSaysWhatRuns(t *testing.T) {
	d := startFake(t)
	t.Setenv("FROM_HERE", "yes")
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# ours\nMODE=file\nFROM_FILE=1\nFROM_HERE\nNOT_HERE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := func(change func(s *guestv1.ExecStart)) *guestv1.ExecStart {
		s := &guestv1.ExecStart{
			Argv: argv("start", "serve"), Env: argv("PATH=/app/bin", "MODE=image"), User: "app:app", Dir: "/srv", Stdin: true,
			Plain: true, MakeDirs: []string{"/srv", "/data", "/srv"}, StopSignal: 3,
		}
		change(s)
		return s
	}
	for args, want := range map[string]*guestv1.ExecStart{
		"":                         image(func(*guestv1.ExecStart) {}),
		"-- stop --now":            image(func(s *guestv1.ExecStart) { s.Argv = argv("start", "stop", "--now") }),
		"--entrypoint start":       image(func(s *guestv1.ExecStart) { s.Argv = argv("start") }),
		"--entrypoint= -- start x": image(func(s *guestv1.ExecStart) { s.Argv = argv("start", "x") }),
		"-u root -w /x":            image(func(s *guestv1.ExecStart) { s.User, s.Dir, s.MakeDirs = "root", "/x", []string{"/srv", "/data", "/x"} }),
		"-w sub":                   image(func(s *guestv1.ExecStart) { s.Dir, s.MakeDirs = "/srv/sub", []string{"/srv", "/data", "/srv/sub"} }),
		"-e A=1 -e MODE=flag -e A=2 -e FROM_HERE": image(func(s *guestv1.ExecStart) {
			s.Env = argv("PATH=/app/bin", "MODE=flag", "A=2", "FROM_HERE=yes")
		}),
		"-e MODE": image(func(s *guestv1.ExecStart) { s.Env = argv("PATH=/app/bin") }),
		"-e FROM_FILE=2 --env-file " + file: image(func(s *guestv1.ExecStart) {
			s.Env = argv("PATH=/app/bin", "MODE=file", "FROM_FILE=2", "FROM_HERE=yes")
		}),
		"-t": image(func(s *guestv1.ExecStart) {
			s.Tty, s.Term, s.StopSignal = &guestv1.WindowSize{Rows: 24, Cols: 80}, "dumb", 0
		}),
		"-d": image(func(s *guestv1.ExecStart) { s.Detach, s.Stdin = true, false }),
	} {
		t.Setenv("TERM", "")
		r := banger(t, append([]string{"vm", "run", "--image", "app"}, strings.Fields(args)...)...)
		if diff := cmp.Diff(get(d, &d.started), want, protocmp.Transform()); r.code != 0 || diff != "" {
			t.Errorf("vm run %s: %+v\n%s", args, r, diff)
		}
	}
	d.add("vm", bangerv1.State_STATE_RUNNING).Config = appConfig()
	for args, want := range map[string]*guestv1.ExecStart{
		"vm start": image(func(s *guestv1.ExecStart) {
			s.Argv, s.MakeDirs, s.Stdin, s.StopSignal = argv("start"), []string{"/srv", "/data"}, false, 0
		}),
		"-d -u 7 -w /x -e MODE=1 vm -- start x": image(func(s *guestv1.ExecStart) {
			s.Argv, s.MakeDirs, s.Stdin, s.StopSignal = argv("start", "x"), []string{"/srv", "/data"}, false, 0
			s.User, s.Dir, s.Env, s.Detach = "7", "/x", argv("PATH=/app/bin", "MODE=1"), true
		}),
	} {
		r := banger(t, append([]string{"vm", "exec"}, strings.Fields(args)...)...)
		if diff := cmp.Diff(get(d, &d.started), want, protocmp.Transform()); r.code != 0 || diff != "" {
			t.Errorf("vm exec %s: %+v\n%s", args, r, diff)
		}
	}
}

func argv(words ...string) [][]byte { return asBytes(words) }

// TestAnImageThatSaysNothing is run as it always was.
func TestAnImageThatSaysNothing(t *testing.T) {
	d := startFake(t)
	for args, want := range map[string]*guestv1.ExecStart{
		"-- start":                       {Argv: argv("start"), Stdin: true},
		"--entrypoint start -e A=1 -e B": {Argv: argv("start"), Stdin: true, Env: argv("A=1")},
		"-u dev -w sub -- start":         {Argv: argv("start"), Stdin: true, User: "dev", Dir: "sub"},
		"-w /x -- start":                 {Argv: argv("start"), Stdin: true, Dir: "/x", MakeDirs: []string{"/x"}},
		"-d -- start x":                  {Argv: argv("start", "x"), Detach: true},
	} {
		r := banger(t, append([]string{"vm", "run"}, strings.Fields(args)...)...)
		if diff := cmp.Diff(get(d, &d.started), want, protocmp.Transform()); r.code != 0 || diff != "" {
			t.Errorf("vm run %s: %+v\n%s", args, r, diff)
		}
	}
}

func TestRunWithNothingToRun(t *testing.T) {
	d := startFake(t)
	r := banger(t, "vm", "run", "--image", "app", "--entrypoint", "", "--name", "empty")
	if want := "banger: there is no shell in the VM\nempty still runs; delete it with: banger vm delete --force empty\n"; r.code != 127 || !strings.HasSuffix(r.errOut, want) || len(d.all()) != 1 {
		t.Errorf("%+v, want 127 and %q", r, want)
	}
	if r := banger(t, "vm", "run", "--rm", "--image", "app", "--entrypoint", "", "--name", "gone"); r.code != 127 || strings.Contains(r.errOut, "still runs") || len(d.all()) != 1 {
		t.Errorf("with --rm: %+v, VMs %v", r, d.all())
	}
	// The VM has booted into what the image's command is: only a shell is left to run.
	if r := banger(t, "vm", "run", "--image", "machine", "--name", "machine", "-d"); r.code != 0 || r.out != "machine\n" {
		t.Errorf("an image that is a machine: %+v", r)
	}
	if r := banger(t, "vm", "run", "-d", "--image", "app", "--name", "bad", "--entrypoint", "none"); r.code != 127 || r.out != "bad\n" || !strings.Contains(r.errOut, `"none": not found`) {
		t.Errorf("a detached command that cannot be run: %+v", r)
	}
}

func TestImportSendsTheConfiguration(t *testing.T) {
	d := startFake(t)
	r := start(t, strings.NewReader("tar"), "image", "import", "-", "--name", "x", "-c", `ENTRYPOINT ["/app"]`, "--change", "ENV A=1 B=2", "-c", "LABEL l=1").wait()
	want := &bangerv1.ImageConfig{Entrypoint: []string{"/app"}, Env: []string{"A=1", "B=2"}, Labels: map[string]string{"l": "1"}}
	if diff := cmp.Diff(get(d, &d.head).GetConfig(), want, protocmp.Transform()); r.code != 0 || diff != "" {
		t.Errorf("%+v\n%s", r, diff)
	}
	if start(t, strings.NewReader("tar"), "image", "import", "-", "--name", "x").wait(); get(d, &d.head).Config != nil {
		t.Errorf("an import without changes has %v", d.head.Config)
	}
}

func TestShowPrintsTheConfiguration(t *testing.T) {
	d := startFake(t)
	config := appConfig()
	config.Env = append(config.Env, "ODD=\x1b[2J")
	d.add("vm", bangerv1.State_STATE_RUNNING).Config = config
	r := banger(t, "vm", "show", "vm")
	for _, want := range []string{`entrypoint: ["start"]`, `command: ["serve"]`, "user: app:app", "workdir: /srv", "env: PATH=/app/bin", "env: MODE=image", "env: ODD= [2J", "ports: 80/tcp", "volumes: /data", "stop signal: SIGQUIT"} {
		if !strings.Contains(strings.Join(strings.Fields(r.out), " "), want) {
			t.Errorf("%q is missing from\n%s", want, r.out)
		}
	}
	if r := banger(t, "vm", "show", "--json", "vm"); !strings.Contains(r.out, `"config": {`) || !strings.Contains(r.out, `"working_dir": "/srv"`) {
		t.Errorf("%s", r.out)
	}
}

func TestParseEnv(t *testing.T) {
	ours := func(key string) (string, bool) { return "ours", key == "HERE" }
	got, err := parseEnv("\ufeff# remark\n\n  A=1 \r\nB=\"q\" # no remark\nHERE\nNONE\nC=\nHERE=x\nD=a=b", ours)
	if want := []string{"A=1 ", `B="q" # no remark`, "HERE=ours", "C=", "HERE=x", "D=a=b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, text := range []string{"=1", "A B=1", "A=\x00", "A=\xff", "ok=1\nA B"} {
		if got, err := parseEnv(text, ours); err == nil {
			t.Errorf("parseEnv(%q) = %q", text, got)
		}
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add("A=1\nB\n#\n \tC=d\r\n")
	f.Add("\ufeffA")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseEnv(text, func(string) (string, bool) { return "ours", true })
		if err != nil {
			return
		}
		var none *vm.ImageConfig
		if got := none.Environ(entries); len(got) > len(entries) || len(entries) > 0 && len(got) == 0 {
			t.Errorf("%q became %q", entries, got)
		}
		for _, entry := range entries {
			if strings.ContainsAny(entry, "\n\x00") {
				t.Errorf("the entry %q", entry)
			}
		}
	})
}
