package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// dockerTimeout bounds dockerd's start: some hundred runs of iptables, under emulation.
const dockerTimeout = 10 * time.Minute

// TestDockerInsideAGuest makes the catalog's images with Docker. In their guests, which
// have no network card, containers run and are built: Docker's bridge is the guest's own.
func TestDockerInsideAGuest(t *testing.T) {
	testneed.Asked(t, testneed.Mirror)
	root, err := busyboxTar()
	if err != nil {
		testneed.Missing(t, testneed.Tools, "%v", err)
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) { dockerIn(t, release, root) })
	}
}

func dockerIn(t *testing.T, release string, root []byte) {
	image, name := "debian-"+release+"-docker", "docker-"+release
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	if r := shared.run(ctx, nil, "image", "build", image); r.code != 0 || r.stdout != image+"\n" {
		t.Fatalf("image build: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	var made []struct{ Source string }
	if err := json.Unmarshal([]byte(shared.must(t, "image", "show", "--json", image)), &made); err != nil || len(made) != 1 ||
		!strings.Contains(made[0].Source, "Debian "+release+", docker: ") || !strings.Contains(made[0].Source, release+"-security of ") {
		t.Errorf("it says of itself %+v, %v", made, err)
	}

	shared.atEnd(t, "vm", "delete", "--force", name)
	shared.must(t, "vm", "create", "--name", name, "--image", image, "--memory", "1GiB", "--vcpu", "2")
	inside := func(script string) string {
		t.Helper()
		return shared.must(t, "vm", "exec", name, "--", "sh", "-ec", script)
	}
	// It waits for the start, but not for the init to listen.
	up := func() {
		t.Helper()
		eventually(t, dockerTimeout, "dockerd runs", func() bool {
			return shared.banger(t, "vm", "exec", name, "--", "systemctl", "start", "docker").code == 0
		})
	}
	up()
	if out := inside("grep -P '^package\tdocker.io\t' /usr/share/banger/packages"); !strings.Contains(out, "\tamd64\t"+release) {
		t.Errorf("the package docker.io is recorded as %q", out)
	}
	in, done := context.WithTimeout(t.Context(), commandTimeout)
	defer done()
	if r := shared.run(in, bytes.NewReader(root), "vm", "exec", name, "--", "sh", "-ec", `
		mkdir /root/context; cd /root/context; tar x; tar c . | docker import - root:1
		cp bin/busybox .; printf 'FROM scratch\nCOPY busybox /\nRUN ["/busybox", "mkdir", "/made"]\nENTRYPOINT ["/busybox", "ls", "-d"]\n' > Dockerfile
		docker build -t one-file:1 .`); r.code != 0 {
		t.Fatalf("docker import and build: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	run := func(want string, args ...string) {
		t.Helper()
		if out := shared.must(t, slices.Concat([]string{"vm", "exec", name, "--", "docker", "run", "--rm"}, args)...); out != want {
			t.Errorf("docker run %q printed %q, want %q", args, out, want)
		}
	}
	run("one two\n1\n", "root:1", "sh", "-c", `echo "$0"; busybox ip -4 addr show eth0 | busybox grep -c 'inet 172\.17\.'`, "one two")
	run("/busybox\n/made\n", "one-file:1", "/busybox", "/made")

	shared.must(t, "vm", "restart", name)
	up()
	run("/made\n", "one-file:1", "/made")
}

// TestImageOfPackages makes an image as a user describes it.
func TestImageOfPackages(t *testing.T) {
	testneed.Asked(t, testneed.Mirror)
	shared.atEnd(t, "image", "delete", "described")
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	if r := shared.run(ctx, nil, "image", "build", "--from", "debian:trixie", "--packages", "nosuch-package,tree", "--name", "described"); r.code != 122 ||
		!strings.Contains(r.stderr, `cannot make the image "described": there is no package nosuch-package`) {
		t.Errorf("a package that there is not: exit %d, %s", r.code, r.stderr)
	}
	if r := shared.run(ctx, nil, "image", "build", "--from", "debian:nosuch", "--name", "described"); r.code != 125 || !strings.Contains(r.stderr, "no mirror of this host has Debian nosuch") {
		t.Errorf("a release that there is not: exit %d, %s", r.code, r.stderr)
	}
	if r := shared.run(ctx, nil, "image", "build", "--from", "debian:trixie", "--packages", "tree", "--name", "described"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	out := shared.must(t, "vm", "run", "--rm", "--image", "described", "--memory", "512MiB", "--", "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME; tree --version")
	if !strings.HasPrefix(out, "trixie\ntree v") {
		t.Errorf("got %q", out)
	}
}
