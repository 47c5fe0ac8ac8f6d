package bzimage

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"
)

// saying returns an ELF with this text in it, at an offset.
func saying(at int, text string) []byte {
	b := kernelELF(elf.EM_X86_64, noteEntry, at)
	return append(append(b[:at:at], text...), make([]byte, 100)...)
}

func TestRelease(t *testing.T) {
	const banner = "Linux version 6.12.90+deb12-cloud-amd64 (debian@example.com) (gcc 12) #1 SMP"
	for name, test := range map[string]struct {
		elf  []byte
		want string
	}{
		"at the start":       {saying(300, banner), "6.12.90+deb12-cloud-amd64"},
		"across two rounds":  {saying(1<<20-5, banner), "6.12.90+deb12-cloud-amd64"},
		"behind the format":  {saying(300, "Linux version %s (x) Linux version  "+banner), "6.12.90+deb12-cloud-amd64"},
		"none":               {saying(300, "Linux"), ""},
		"a path":             {saying(300, "Linux version 6/../../x (debian) "), ""},
		"too long":           {saying(300, "Linux version 6."+strings.Repeat("1", 100)+" (x)"), ""},
		"ends in the middle": {bytes.TrimRight(saying(300, "Linux version 6.1"), "\x00"), ""},
	} {
		if got, err := Release(bytes.NewReader(test.elf), int64(len(test.elf))); err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
	}
}

func TestConfig(t *testing.T) {
	const text = "CONFIG_PVH=y\n"
	packed := string(gzipOf([]byte(text)))
	for name, test := range map[string]struct {
		text, want, fails string
	}{
		"there":         {text: "IKCFG_ST" + packed + "IKCFG_ED", want: text},
		"second":        {text: "IKCFG_ST \x1f\x8b IKCFG_ST" + packed, want: text},
		"by chance":     {text: "IKCFG_ST\x1f\x8b\x08\xff IKCFG_ST" + packed, want: text},
		"none":          {text: "IKCFG"},
		"damaged":       {text: "IKCFG_ST" + packed[:len(packed)-9] + "\xff\xff\xff\xff\xff\xff\xff\xff\xff", fails: "damaged"},
		"unpacks large": {text: "IKCFG_ST" + string(gzipOf(make([]byte, MaxConfig+1))), fails: "larger than 4 MiB"},
	} {
		b := saying(300, test.text)
		got, err := Config(bytes.NewReader(b), int64(len(b)))
		if string(got) != test.want || (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: %.60q, %v; want %q, %q", name, got, err, test.want, test.fails)
		}
	}
}

func FuzzFacts(f *testing.F) {
	f.Add([]byte("xLinux version 6.1.0-9-cloud-amd64 (x)IKCFG_ST" + string(gzipOf([]byte("CONFIG_A=y\n")))))
	f.Add([]byte("Linux version "))
	f.Add([]byte("IKCFG_ST\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, data []byte) {
		release, err := Release(bytes.NewReader(data), int64(len(data)))
		if err != nil || len(release) > maxRelease || strings.ContainsAny(release, "/ \x00\n") {
			t.Errorf("the release is %q, %v", release, err)
		}
		if config, _ := Config(bytes.NewReader(data), int64(len(data))); len(config) > MaxConfig {
			t.Errorf("a configuration of %d bytes", len(config))
		}
	})
}

func FuzzELF(f *testing.F) {
	f.Add(kernelELF(elf.EM_X86_64, noteEntry, 0))
	f.Add(kernelELF(elf.EM_X86_64, 17, 0))
	f.Add([]byte("\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkELF(bytes.NewReader(data), int64(len(data))) == nil && !bytes.Contains(data, []byte("Xen\x00")) {
			t.Error("took an ELF without the note")
		}
		_ = hasEntry(data)
	})
}
