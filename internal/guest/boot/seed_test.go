package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/base/testneed"
)

// needRoot skips a test of owners and trusted attributes.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners and trusted attributes need root")
	}
	dir := t.TempDir()
	if err := unix.Lsetxattr(dir, "trusted.banger.test", []byte("1"), 0); err != nil {
		testneed.Missing(t, testneed.Host, "no trusted attributes in %s: %v", dir, err)
	}
}

// imageRoot makes a directory with one of everything.
func imageRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `
		mkdir -p .config/deep "odd name"
		echo profile > .profile; ln .profile hard; ln -s /no/where dangling; ln -s .profile link
		echo '#!/bin/sh' > .config/deep/tool; chmod 4711 .config/deep/tool
		printf '\0' > "odd name/$(printf 'new\nline')"
		mkfifo pipe; chown -h 1000:1001 dangling; chown 7:8 "odd name"; chmod 1770 "odd name"
		touch -d 2001-02-03T04:05:06.789 .profile .config/deep; touch -h -d 2002-01-01 dangling
		chmod 750 .; touch -d 2003-03-03 .`
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := unix.Lsetxattr(filepath.Join(dir, ".profile"), "user.note", []byte("a\x00b"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	return dir
}

// describe is a line for each entry of a tree with all that seed must keep.
func describe(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first, ok := inodes[st.Ino]; ok {
				lines = append(lines, fmt.Sprintf("%q is %q", name, first))
				return nil
			}
			inodes[st.Ino] = name
		}
		content := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(data)
		case unix.S_IFLNK:
			content, _ = os.Readlink(path)
		}
		note := make([]byte, 100)
		n, _ := unix.Lgetxattr(path, "user.note", note)
		lines = append(lines, fmt.Sprintf("%q %o %d:%d %s %q %q", name, st.Mode, st.Uid, st.Gid, time.Unix(st.Mtim.Unix()), content, note[:max(n, 0)]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestSeedCopiesEverything(t *testing.T) {
	needRoot(t)
	src, dst := imageRoot(t), t.TempDir()
	if err := os.Mkdir(filepath.Join(dst, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := describe(t, src)
	if err := seed(src, dst); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, dst); got != want {
		t.Errorf("the copy is\n%s\nwant\n%s", got, want)
	}
	// The second boot changes nothing, whatever the user has done since.
	if err := os.RemoveAll(filepath.Join(dst, ".config")); err != nil {
		t.Fatal(err)
	}
	changed := describe(t, dst)
	if err := seed(src, dst); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, dst); got != changed {
		t.Errorf("a second seeding changed\n%s\nto\n%s", changed, got)
	}
}

// TestUnfinishedSeedStartsOver leaves the disk in the states in which a power cut
// can leave it.
func TestUnfinishedSeedStartsOver(t *testing.T) {
	needRoot(t)
	src := imageRoot(t)
	want := describe(t, src)
	for name, cut := range map[string]func(dst string) error{
		"copying": func(dst string) error {
			return os.MkdirAll(filepath.Join(dst, seedDir, "half", "done"), 0o700)
		},
		"moving": func(dst string) error {
			c := copier{links: map[inode]string{}}
			tmp := filepath.Join(dst, seedDir)
			if err := c.copy(src, tmp); err != nil {
				return err
			}
			return os.Rename(filepath.Join(tmp, ".config"), filepath.Join(dst, ".config"))
		},
		"marking": func(dst string) error {
			if err := seed(src, dst); err != nil {
				return err
			}
			return unix.Lremovexattr(dst, seedMark)
		},
	} {
		dst := t.TempDir()
		if err := cut(dst); err != nil {
			t.Fatal(err)
		}
		if err := seed(src, dst); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := describe(t, dst)
		if name == "marking" {
			// Hard links stay those of the first copy.
			if !strings.Contains(got, `"hard" is ".profile"`) && !strings.Contains(got, `".profile" is "hard"`) {
				t.Errorf("%s: the hard link is lost:\n%s", name, got)
			}
		}
		if got != want {
			t.Errorf("%s: the copy is\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestSeedNeverReplacesTheUsersFiles(t *testing.T) {
	needRoot(t)
	src, dst := imageRoot(t), t.TempDir()
	mine := filepath.Join(dst, ".profile")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := seed(src, dst); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(mine); err != nil || string(got) != "mine" {
		t.Errorf("the user's file is %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dst, ".config/deep/tool")); err != nil {
		t.Errorf("the rest is missing: %v", err)
	}
}

func TestSeedReportsWhatItCannotCopy(t *testing.T) {
	needRoot(t)
	if err := seed(filepath.Join(t.TempDir(), "none"), t.TempDir()); err == nil {
		t.Error("a missing /root was seeded")
	}
}
