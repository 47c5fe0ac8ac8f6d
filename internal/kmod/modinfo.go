package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxModinfo bounds the section .modinfo, in bytes. The largest in Debian's
// cloud kernel has 60 kB.
const maxModinfo = 4 << 20

// modinfo is what we use of a module's section .modinfo.
type modinfo struct {
	depends  []string // names
	pre      []string // names of soft dependencies to load before
	softdeps []string // as written
	aliases  []string // as written
	release  string   // of the kernel it was built for
}

// readInfo reads the modinfo of a module's ELF.
func readInfo(module []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return modinfo{}, fmt.Errorf("it is no module: %w", err)
	}
	section := f.Section(".modinfo")
	switch {
	case section == nil || section.Type != elf.SHT_PROGBITS || section.Flags&elf.SHF_COMPRESSED != 0:
		return modinfo{}, errors.New("it is no module: it has no section .modinfo")
	case section.FileSize > maxModinfo:
		return modinfo{}, fmt.Errorf("its section .modinfo of %d bytes is too large", section.FileSize)
	}
	text := make([]byte, section.FileSize)
	if _, err := section.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		return modinfo{}, fmt.Errorf("its section .modinfo breaks off: %w", err)
	}
	return parseModinfo(string(text)), nil
}

// parseModinfo reads fields "key=value", each ended by a NUL
// (kernel: include/linux/moduleparam.h, MODULE_INFO).
func parseModinfo(text string) modinfo {
	var m modinfo
	for field := range strings.SplitSeq(text, "\x00") {
		key, value, _ := strings.Cut(field, "=")
		if strings.ContainsAny(value, "\n\r") {
			continue // it would break the lines of the index files
		}
		switch key {
		case "depends":
			for dep := range strings.SplitSeq(value, ",") {
				if dep = strings.TrimSpace(dep); dep != "" {
					m.depends = append(m.depends, Normalize(dep))
				}
			}
		case "softdep":
			m.softdeps = append(m.softdeps, value)
			m.pre = append(m.pre, preOf(value)...)
		case "vermagic": // the release, then flags (kernel: include/linux/vermagic.h)
			m.release, _, _ = strings.Cut(value, " ")
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
	return m
}

// preOf returns the modules after "pre:" in a soft dependency
// (modprobe.d(5): "pre: a b post: c").
func preOf(softdep string) []string {
	var names []string
	pre := false
	for word := range strings.FieldsSeq(softdep) {
		switch word {
		case "pre:":
			pre = true
		case "post:":
			pre = false
		default:
			if pre {
				names = append(names, Normalize(word))
			}
		}
	}
	return names
}
