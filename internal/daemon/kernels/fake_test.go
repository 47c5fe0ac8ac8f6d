package kernels

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"
)

const (
	release612 = "6.12.5+deb12-cloud-amd64"
	release61  = "6.1.0-9-cloud-amd64"
)

// mirror is an archive that behaves like Debian's, over HTTP.
type mirror struct {
	t   *testing.T
	key *openpgp.Entity
	// root and keyring are the host's side.
	root, keyring string

	mu    sync.Mutex
	files map[string][]byte
	hits  map[string]int
	// serve, if set, answers in place of the mirror.
	serve func(w http.ResponseWriter, path string, data []byte) bool
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	m := &mirror{t: t, root: t.TempDir(), files: map[string][]byte{}, hits: map[string]int{}, key: newKey(t)}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.keyring = filepath.Join(m.root, "keyring.gpg")
	var ring bytes.Buffer
	check(t, m.key.Serialize(&ring))
	check(t, os.WriteFile(m.keyring, ring.Bytes(), 0o644))
	check(t, os.MkdirAll(filepath.Join(m.root, "etc", "apt"), 0o755))
	check(t, os.WriteFile(filepath.Join(m.root, "etc", "apt", "sources.list"), []byte("deb "+server.URL+"/debian bookworm main\n"), 0o644))
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.hits[filepath.Base(r.URL.Path)]++
	data, ok := m.files[r.URL.Path]
	serve := m.serve
	m.mu.Unlock()
	switch {
	case !ok:
		http.NotFound(w, r)
	case serve == nil || !serve(w, r.URL.Path, data):
		_, _ = w.Write(data)
	}
}

// flip changes one byte of every file whose path has this ending.
func (m *mirror) flip(suffix string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, data := range m.files {
		if strings.HasSuffix(path, suffix) {
			m.files[path] = bytes.Clone(data)
			m.files[path][len(data)/2] ^= 1
		}
	}
}

// publish signs a suite with one kernel and its metapackage.
func (m *mirror) publish(suite, meta, release string) {
	m.t.Helper()
	m.publishAll(suite, time.Now(), meta, kernelPackage{release, "1", kernelDeb(m.t, release)})
}

// kernelPackage is a package with a kernel.
type kernelPackage struct {
	release, version string
	deb              []byte
}

// publishAll signs a suite, of a date, with kernels; the metapackage depends on the
// first one.
func (m *mirror) publishAll(suite string, date time.Time, meta string, packages ...kernelPackage) {
	m.t.Helper()
	index := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nDepends: linux-image-%s (= 1)\nFilename: pool/meta.deb\nSize: 1\nSHA256: %064d\n\n",
		meta, packages[0].version, packages[0].release, 0)
	pools := map[string][]byte{}
	for _, p := range packages {
		pool := "pool/main/l/linux-image-" + p.release + "_" + p.version + "_amd64.deb"
		pools["/debian/"+pool] = p.deb
		index += fmt.Sprintf("Package: linux-image-%s\nVersion: %s\nArchitecture: amd64\nFilename: %s\nSize: %d\nSHA256: %x\n\n", p.release, p.version, pool, len(p.deb), sha256.Sum256(p.deb))
	}
	var packed bytes.Buffer
	z, err := xz.NewWriter(&packed)
	check(m.t, err)
	_, err = z.Write([]byte(index))
	check(m.t, err)
	check(m.t, z.Close())
	text := fmt.Sprintf("Suite: oldstable\nCodename: %s\nDate: %s\nValid-Until: %s\nSHA256:\n %x %d main/binary-amd64/Packages.xz\n",
		suite, date.UTC().Format("Mon, _2 Jan 2006 15:04:05 MST"), time.Now().Add(time.Hour).UTC().Format("Mon, _2 Jan 2006 15:04:05 MST"), sha256.Sum256(packed.Bytes()), packed.Len())
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.files, pools)
	m.files["/debian/dists/"+suite+"/main/binary-amd64/Packages.xz"] = packed.Bytes()
	m.files["/debian/dists/"+suite+"/InRelease"] = sign(m.t, m.key, text)
}

func newKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("Test Archive", "", "archive@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	check(t, err)
	return key
}

func sign(t *testing.T, key *openpgp.Entity, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, nil)
	check(t, err)
	_, err = w.Write([]byte(text))
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

// kernelDeb returns a package as Debian's are: ar, tar, gzip.
func kernelDeb(t *testing.T, release string, more ...string) []byte {
	t.Helper()
	var data bytes.Buffer
	z := gzip.NewWriter(&data)
	w := tar.NewWriter(z)
	modules := "./lib/modules/" + release + "/"
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"./boot/vmlinuz-" + release, bzImage(vmlinux(release, more...))},
		{"./boot/config-" + release, []byte(goodConfig())},
		{"./usr/share/doc/x", []byte("not wanted")},
		{modules + "modules.builtin", []byte("kernel/fs/ext4/ext4.ko\n")},
		{modules + "kernel/net/failover.ko", module("depends=")},
		{modules + "kernel/net/virtio_net.ko", module("depends=failover")},
		{modules + "kernel/fs/overlay.ko", module("depends=")},
		{modules + "kernel/fs/rare.ko", module("depends=")},
	} {
		check(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}))
		_, err := w.Write(f.data)
		check(t, err)
	}
	check(t, w.Close())
	check(t, z.Close())
	return fmt.Appendf(nil, "!<arch>\n%-16s%-12d%-6d%-6d%-8s%-10d`\n2.0\n%-16s%-12d%-6d%-6d%-8s%-10d`\n%s",
		"debian-binary", 0, 0, 0, "100644", 4, "data.tar.gz", 0, 0, 0, "100644", data.Len(), data.Bytes())
}

// elfOf lays out an ELF header, a body, and what else there is.
func elfOf(h elf.Header64, parts ...any) []byte {
	copy(h.Ident[:], elf.ELFMAG+string([]byte{byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1}))
	h.Machine, h.Version, h.Ehsize = uint16(elf.EM_X86_64), 1, 64
	var b bytes.Buffer
	for _, p := range append([]any{h}, parts...) {
		if err := binary.Write(&b, binary.LittleEndian, p); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// goodConfig has all that a kernel must have, as kernelDeb's has it.
func goodConfig() string {
	text := "CONFIG_PVH=y\nCONFIG_VIRTIO_NET=m\n"
	for _, p := range parts {
		switch {
		case p.module == "overlay":
			text += p.option + "=m\n"
		case p.must:
			text += p.option + "=y\n"
		}
	}
	return text
}

// without takes an option out of a configuration.
func without(config, option string) string {
	return strings.ReplaceAll(strings.ReplaceAll(config, option+"=y\n", ""), option+"=m\n", "")
}

// vmlinux returns an ELF with nothing but a PVH entry and its release.
func vmlinux(release string, more ...string) []byte {
	note := []byte("\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00\x00\x00\x00\x01\x00\x00\x00\x00")
	return elfOf(elf.Header64{Type: uint16(elf.ET_EXEC), Phoff: 64, Phentsize: 56, Phnum: 1},
		elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 120, Filesz: uint64(len(note))}, note,
		[]byte("Linux version "+release+" (test@example.com) #1\x00"+strings.Join(more, "")))
}

// module returns an ELF with nothing but modinfo.
func module(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	return elfOf(elf.Header64{Type: uint16(elf.ET_REL), Shentsize: 64, Shnum: 3, Shstrndx: 2, Shoff: uint64(64 + len(info) + len(names))},
		[]byte(info), []byte(names), elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names))})
}

// bzImage wraps an ELF as the kernel's build does, with gzip.
func bzImage(kernel []byte) []byte {
	var payload bytes.Buffer
	z := gzip.NewWriter(&payload)
	_, _ = z.Write(kernel)
	_ = z.Close()
	b := make([]byte, 2*512+128)
	b[0x1f1] = 1
	copy(b[0x1fe:], "\x55\xaa")
	copy(b[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(b[0x248:], 128)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(payload.Len()))
	return append(b, payload.Bytes()...)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
