package boot

import (
	"errors"
	"os"
	"strings"

	"banger/internal/guestabi"
)

// config is what the kernel command line tells the guest.
type config struct {
	VM, Hostname, Link, PowerOff string
}

func (b *booter) readConfig() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	b.config, err = parseConfig(string(line))
	return err
}

// parseConfig reads the keys of package guestabi; the last of two wins, and
// unknown words are the kernel's. Without a PowerOff it is ACPI.
func parseConfig(line string) (config, error) {
	c := config{PowerOff: guestabi.PowerOffACPI}
	for word := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case guestabi.ArgVM:
			c.VM = value
		case guestabi.ArgHostname:
			c.Hostname = value
		case guestabi.ArgLink:
			c.Link = value
		case guestabi.ArgPowerOff:
			c.PowerOff = value
		}
	}
	var missing []error
	for key, value := range map[string]string{guestabi.ArgVM: c.VM, guestabi.ArgHostname: c.Hostname, guestabi.ArgLink: c.Link} {
		if value == "" {
			missing = append(missing, errors.New(key+" is missing"))
		}
	}
	return c, errors.Join(missing...)
}
