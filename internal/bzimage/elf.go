package bzimage

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of what is read of the ELF.
const (
	maxPrograms = 256
	maxNotes    = 1 << 20
)

// noteEntry is XEN_ELFNOTE_PHYS32_ENTRY: the address at which a VMM enters.
const noteEntry = 18

// checkELF refuses an ELF of n bytes that is not a kernel for x86-64 with a PVH
// entry. Layouts are those of elf(5).
func checkELF(r io.ReaderAt, n int64) error {
	var h elf.Header64
	if err := read(r, n, 0, &h); err != nil {
		return err
	}
	switch {
	case string(h.Ident[:4]) != elf.ELFMAG:
		return errors.New("its payload is no ELF")
	case h.Ident[elf.EI_CLASS] != byte(elf.ELFCLASS64) || h.Ident[elf.EI_DATA] != byte(elf.ELFDATA2LSB) || elf.Machine(h.Machine) != elf.EM_X86_64:
		return fmt.Errorf("it is not for x86-64, but for %s of class %s", elf.Machine(h.Machine), elf.Class(h.Ident[elf.EI_CLASS]))
	case h.Phentsize != uint16(binary.Size(elf.Prog64{})) || h.Phnum > maxPrograms:
		return errors.New("its program headers are damaged")
	}
	programs := make([]elf.Prog64, h.Phnum)
	if err := read(r, n, h.Phoff, programs); err != nil {
		return err
	}
	for _, p := range programs {
		if elf.ProgType(p.Type) != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		notes := make([]byte, p.Filesz)
		if err := read(r, n, p.Off, notes); err != nil {
			return err
		}
		if hasEntry(notes) {
			return nil
		}
	}
	return errors.New("it has no PVH entry (CONFIG_PVH is off)")
}

// read fills v from r at off, which must lie within n bytes.
func read(r io.ReaderAt, n int64, off uint64, v any) error {
	size := binary.Size(v)
	if off > uint64(n) || uint64(size) > uint64(n)-off {
		return fmt.Errorf("it ends before byte %d", off+uint64(size))
	}
	return binary.Read(io.NewSectionReader(r, int64(off), int64(size)), binary.LittleEndian, v)
}

// hasEntry looks for the PVH note: three words (lengths of name and content,
// type), then name and content, each padded to four bytes.
func hasEntry(notes []byte) bool {
	le := binary.LittleEndian
	for len(notes) >= 12 {
		nameLen, descLen, kind := int64(le.Uint32(notes)), int64(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		desc := 12 + (nameLen+3)&^3
		end := desc + (descLen+3)&^3
		if end > int64(len(notes)) {
			return false
		}
		if kind == noteEntry && string(notes[12:12+nameLen]) == "Xen\x00" && (descLen == 4 || descLen == 8) {
			return true
		}
		notes = notes[end:]
	}
	return false
}
