package kconfig_test

import (
	"bytes"
	"compress/gzip"
	"maps"
	"strings"
	"testing"

	"banger/internal/kconfig"
)

const sample = `#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.12.90 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0 a=b"
CONFIG_PVH=y
CONFIG_EXT4_FS=m
CONFIG_HZ=250
# CONFIG_NUMA is not set
CONFIG_OLD=n
`

func packed(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestParse(t *testing.T) {
	want := kconfig.Config{"CONFIG_CC_VERSION_TEXT": `"gcc-12 (Debian 12.2.0-14) 12.2.0 a=b"`, "CONFIG_PVH": "y", "CONFIG_EXT4_FS": "m", "CONFIG_HZ": "250"}
	for name, text := range map[string][]byte{"text": []byte(sample), "gzip": packed(t, sample), "no last newline": []byte(strings.TrimRight(sample, "\n"))} {
		c, err := kconfig.Parse(text)
		if err != nil || !maps.Equal(c, want) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	c, _ := kconfig.Parse([]byte(sample))
	if !c.Builtin("CONFIG_PVH") || c.Builtin("CONFIG_EXT4_FS") || !c.Module("CONFIG_EXT4_FS") || c.Module("CONFIG_NUMA") || c.Builtin("CONFIG_NUMA") {
		t.Errorf("%v", c)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		text []byte
		want string
	}{
		"empty":         {nil, "no line CONFIG_"},
		"an ELF":        {[]byte("\x7fELF\x00\x00\x00="), "no line CONFIG_"},
		"large":         {make([]byte, kconfig.MaxText+1), "larger than 4 MiB"},
		"unpacks large": {packed(t, strings.Repeat("\n", kconfig.MaxText+1)), "unpacks to more"},
		"damaged":       {packed(t, sample)[:40], "unexpected EOF"},
	} {
		if _, err := kconfig.Parse(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add(packed(f, sample))
	f.Add([]byte("CONFIG_=\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := kconfig.Parse(text)
		if (err == nil) != (len(c) > 0) {
			t.Errorf("%d options, %v", len(c), err)
		}
		for name := range c {
			if !strings.HasPrefix(name, "CONFIG_") || c.Builtin(name) && c.Module(name) {
				t.Errorf("%q=%q", name, c[name])
			}
		}
	})
}
