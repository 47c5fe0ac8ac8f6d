package layers_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"banger/internal/base/testneed"
)

// TestLikeUmociOnImagesOfTools has images of busybox and base-files that the usual
// tools have made, with layers that they have found by comparing trees.
func TestLikeUmociOnImagesOfTools(t *testing.T) {
	needRoot(t)
	// umoci insert makes no entries of parents.
	noParents := one().but("a time for parents", ".: mtime", "opt: mtime=0.000000000", "opt/tools: mtime=0.000000000")
	for name, c := range map[string]struct {
		image
		make func(t *testing.T) string
	}{
		"umoci repack": {one(), repacked}, "umoci insert": {noParents, inserted}, "buildah": {one(), built}, "skopeo": {noParents, copied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layout := c.make(t)
			root, refused := umoci(t, layout)
			if refused != "" {
				t.Fatal(refused)
			}
			blobs, diffIDs := readLayout(t, layout)
			if len(blobs) < 2 {
				t.Fatalf("%d layers", len(blobs))
			}
			path, err := diskOf(t, blobs, diffIDs, 1<<30)
			must(t, err)
			ours := readDisk(t, path)
			if len(ours) < 20 {
				t.Errorf("only %d files", len(ours))
			}
			c.judge(t, ours, onHost(t, root, false))
		})
	}
}

// readLayout returns the layers of the image "x", as they are stored, and their digests
// when decompressed.
func readLayout(t testing.TB, layout string) (blobs []io.Reader, diffIDs []string) {
	t.Helper()
	var index v1.IndexManifest
	var manifest v1.Manifest
	var config v1.ConfigFile
	blob := func(h v1.Hash) string { return filepath.Join(layout, "blobs", h.Algorithm, h.Hex) }
	decode(t, filepath.Join(layout, "index.json"), &index)
	for _, m := range index.Manifests {
		if m.Annotations["org.opencontainers.image.ref.name"] == "x" {
			decode(t, blob(m.Digest), &manifest)
		}
	}
	decode(t, blob(manifest.Config.Digest), &config)
	for i, l := range manifest.Layers {
		b, err := os.ReadFile(blob(l.Digest))
		must(t, err)
		blobs = append(blobs, bytes.NewReader(b))
		diffIDs = append(diffIDs, config.RootFS.DiffIDs[i].String())
	}
	return blobs, diffIDs
}

// debian fills a folder with busybox and base-files, as dpkg has installed them here.
func debian(t testing.TB, root string) {
	t.Helper()
	busybox := testneed.Tool(t, "busybox", "busybox-static")
	var names []string
	for _, name := range strings.Fields(runTool(t, "dpkg", "dpkg", "-L", "base-files")) {
		// Of a machine with documentation left out, not all is there; what is mounted, changes.
		if info, err := os.Lstat(name); err == nil && (!info.IsDir() || strings.Count(name, "/") > 1 || name == "/etc" || name == "/usr" || name == "/var") {
			names = append(names, name)
		}
	}
	list := filepath.Join(t.TempDir(), "list")
	must(t, os.WriteFile(list, []byte(strings.Join(names, "\n")), 0o600))
	archive := filepath.Join(t.TempDir(), "base.tar")
	runTool(t, "tar", "tar", "--no-recursion", "--xattrs", "--acls", "-cf", archive, "-C", "/", "-T", list)
	runTool(t, "tar", "tar", "--numeric-owner", "-xpf", archive, "-C", root)
	binary, err := os.ReadFile(busybox)
	must(t, errors.Join(err, os.MkdirAll(filepath.Join(root, "bin"), 0o755), os.WriteFile(filepath.Join(root, "bin/busybox"), binary, 0o755)))
	for _, applet := range []string{"sh", "ls", "cat"} {
		must(t, os.Link(filepath.Join(root, "bin/busybox"), filepath.Join(root, "bin", applet)))
	}
}

// repacked is made by umoci from what it sees to have changed in a folder.
func repacked(t *testing.T) string {
	layout := filepath.Join(t.TempDir(), "layout")
	bundle := filepath.Join(t.TempDir(), "bundle")
	run := func(args ...string) { runTool(t, "umoci", "umoci", args...) }
	run("init", "--layout", layout)
	run("new", "--image", layout+":x")
	run("unpack", "--image", layout+":x", bundle)
	root := filepath.Join(bundle, "rootfs")
	at := func(name string) string { return filepath.Join(root, name) }
	debian(t, root)
	run("repack", "--refresh-bundle", "--image", layout+":x", bundle)
	must(t, errors.Join(
		os.MkdirAll(at("srv/a/b/c"), 0o711), os.WriteFile(at("srv/a/b/c/f"), []byte(noise(70_000, 1)), 0o640), os.Chmod(at("srv/a"), 0o2775|os.ModeSetgid),
		os.Symlink("a/b", at("srv/s")), os.Link(at("bin/cat"), at("srv/cat")), unix.Mkfifo(at("srv/fifo"), 0o622), unix.Mknod(at("srv/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Setxattr(at("bin/busybox"), "security.capability", []byte(capability), 0), unix.Setxattr(at("srv/a"), "user.a", []byte("1"), 0), os.Chown(at("srv/a/b"), 70000, 70001),
	))
	run("repack", "--refresh-bundle", "--image", layout+":x", bundle)
	must(t, errors.Join(
		os.RemoveAll(at("srv/a/b")), os.WriteFile(at("srv/a/b"), []byte("a file now"), 0o600), os.Remove(at("srv/s")), os.MkdirAll(at("srv/s/new"), 0o755),
		os.Remove(at("bin/ls")), os.Rename(at("srv/null"), at("srv/moved")), os.Chmod(at("srv/fifo"), 0o600), unix.Removexattr(at("srv/a"), "user.a"), os.RemoveAll(at("usr/share")),
	))
	run("repack", "--refresh-bundle", "--image", layout+":x", bundle)
	return layout
}

// inserted has layers with markers alone, and with an opaque folder.
func inserted(t *testing.T) string {
	layout := filepath.Join(t.TempDir(), "layout")
	src := t.TempDir()
	run := func(args ...string) { runTool(t, "umoci", "umoci", args...) }
	run("init", "--layout", layout)
	run("new", "--image", layout+":x")
	debian(t, src)
	run("insert", "--image", layout+":x", src, "/")
	run("insert", "--image", layout+":x", filepath.Join(src, "bin/busybox"), "/opt/tools/busybox")
	run("insert", "--image", layout+":x", "--whiteout", "/bin/ls")
	run("insert", "--image", layout+":x", "--opaque", filepath.Join(src, "etc"), "/usr")
	run("insert", "--image", layout+":x", "--whiteout", "/var")
	return layout
}

// built is made by buildah, of commands that run in it.
func built(t *testing.T) string {
	layout := filepath.Join(t.TempDir(), "layout")
	store, src := t.TempDir(), t.TempDir()
	run := func(args ...string) string {
		global := []string{"--storage-driver", "vfs", "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run")}
		return runTool(t, "buildah", "buildah", append(global, args...)...)
	}
	debian(t, src)
	run("from", "--name", "one", "scratch")
	run("copy", "one", src, "/")
	for i, script := range []string{
		"mkdir -p /a/b/c && echo 1 >/a/b/c/f && ln /bin/cat /a/cat && ln -s b /a/s && mkfifo /a/p && chmod 4755 /a/cat && chown -R 1000:70000 /a/b && mv /usr/share /share",
		"rm -r /a/b && echo file >/a/b && rm /bin/ls /a/p && mkdir /a/p && mv /a/s /a/t && echo more >>/etc/issue && rm -r /share/common-licenses && mkdir /share/common-licenses",
	} {
		name := []string{"one", "two"}[i]
		run("run", "--isolation", "chroot", "--network", "host", name, "--", "/bin/busybox", "sh", "-c", "PATH=/bin; /bin/busybox --install -s /applets; PATH=/bin:/applets; "+script)
		run("commit", "--format", "oci", name, "stage"+name)
		if i == 0 {
			run("from", "--pull-never", "--name", "two", "localhost/stage"+name)
		}
	}
	run("push", "localhost/stagetwo", "oci:"+layout+":x")
	return layout
}

// copied is compressed anew by skopeo, with zstd, and back: umoci cannot read that.
func copied(t *testing.T) string {
	from := inserted(t)
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	runTool(t, "skopeo", "skopeo", "--insecure-policy", "copy", "--dest-compress-format", "zstd", "oci:"+from+":x", "oci:"+there+":x")
	blobs, diffIDs := readLayout(t, there)
	zipped := 0
	for _, b := range blobs {
		var head [4]byte
		_, err := b.(io.ReaderAt).ReadAt(head[:], 0)
		must(t, err)
		if string(head[:]) == "\x28\xb5\x2f\xfd" {
			zipped++
		}
	}
	if zipped != len(blobs) {
		t.Errorf("%d of %d layers are in zstd", zipped, len(blobs))
	}
	path, err := diskOf(t, blobs, diffIDs, 1<<30)
	must(t, err)
	runTool(t, "skopeo", "skopeo", "--insecure-policy", "copy", "--dest-compress-format", "gzip", "oci:"+there+":x", "oci:"+back+":x")
	blobs, diffIDs = readLayout(t, back)
	again, err := diskOf(t, blobs, diffIDs, 1<<30)
	must(t, err)
	if a, b := readFile(t, path), readFile(t, again); a != b {
		t.Error("the disk depends on how the layers are compressed")
	}
	return back
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}
