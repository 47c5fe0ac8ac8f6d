package vmmtest

import (
	"bytes"
	"encoding/binary"
)

// loadAddress is where Kernel lies in the guest's memory.
const loadAddress = 1 << 20

// Kernel is a bootable ELF that needs no disk and no time: entered through PVH in
// 32-bit protected mode, it writes "ready\n" to COM1 and then echoes what it reads
// there, except 'r', which reboots (by a triple fault), and 'p', which powers off
// (by the sleep register of QEMU's microvm; hw/i386/microvm.c, GED_MMIO_BASE_REGS).
func Kernel() []byte {
	const headers = 64 + 2*56
	code := program(loadAddress)
	var note bytes.Buffer // ELF note: XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h)
	put(&note, []uint32{4, 8, 18}, []byte("Xen\x00"), uint64(loadAddress))

	var elf bytes.Buffer
	put(&elf, []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		[]uint16{2, 62}, uint32(1), []uint64{loadAddress, 64, 0}, uint32(0), []uint16{64, 56, 2, 0, 0, 0})
	segment := func(kind, flags uint32, offset, address, size uint64) {
		put(&elf, []uint32{kind, flags}, []uint64{offset, address, address, size, size, 4})
	}
	segment(1, 7, headers, loadAddress, uint64(len(code)))          // PT_LOAD
	segment(4, 4, headers+uint64(len(code)), 0, uint64(note.Len())) // PT_NOTE
	elf.Write(code)
	elf.Write(note.Bytes())
	return elf.Bytes()
}

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		_ = binary.Write(b, binary.LittleEndian, v) // never fails on a buffer
	}
}

// program is the code, followed by its data.
func program(address uint32) []byte {
	const message = "ready\n\x00"
	var b bytes.Buffer
	const size = 18 + 44
	put(&b,
		[]byte{0xba, 0xf8, 0x03, 0, 0, 0xbe}, address+size, // mov edx,0x3f8; mov esi,message
		[]byte{0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8},                  // print: lodsb; test al,al; jz loop; out dx,al; jmp print
		[]byte{0xba, 0xfd, 0x03, 0, 0, 0xec, 0xa8, 0x01, 0x74, 0xf6},            // loop: mov edx,0x3fd; in al,dx; test al,1; jz loop
		[]byte{0xba, 0xf8, 0x03, 0, 0, 0xec},                                    // mov edx,0x3f8; in al,dx
		[]byte{0x3c, 'r', 0x74, 0x07, 0x3c, 'p', 0x74, 0x0b},                    // cmp al,'r'; je reset; cmp al,'p'; je off
		[]byte{0xee, 0xeb, 0xe5},                                                // out dx,al; jmp loop
		[]byte{0x0f, 0x01, 0x1d}, address+size+uint32(len(message)), byte(0xcc), // reset: lidt [zeros]; int3
		[]byte{0xc6, 0x05}, uint32(0xfea00200), byte(5<<2|1<<5), // off: mov byte [sleep control],S5|enable
		[]byte{0xeb, 0xfe}, // jmp $
		[]byte(message), make([]byte, 6),
	)
	return b.Bytes()
}
