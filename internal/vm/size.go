package vm

import (
	"math"
	"strconv"
	"strings"

	"banger/internal/base/errs"
)

// Size is a number of bytes, positive.
type Size int64

// The binary units.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// units maps every suffix, in lower case, to its factor. "4G" and "4GB" mean
// what "4GiB" means, as they do for qemu-img, docker and systemd.
var units = map[string]Size{
	"": 1, "b": 1,
	"k": KiB, "kb": KiB, "kib": KiB,
	"m": MiB, "mb": MiB, "mib": MiB,
	"g": GiB, "gb": GiB, "gib": GiB,
	"t": TiB, "tb": TiB, "tib": TiB,
}

// ParseSize reads "4GiB", "4G", "512MiB", "1.5g" or a number of bytes. Zero,
// negative and fractional byte counts are refused.
func ParseSize(s string) (Size, error) {
	bad := func(why string) (Size, error) {
		return 0, errs.New(errs.Invalid, "cannot read the size %q: %s", s, why).WithHint("write it as 4GiB, 4G or 512MiB")
	}
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, unit := s[:end], strings.ToLower(strings.TrimSpace(s[end:]))
	factor, ok := units[unit]
	if !ok {
		return bad("unknown unit " + strconv.Quote(s[end:]))
	}
	if strings.Trim(number, "0123456789.") != "" {
		return bad("not a positive number")
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		switch {
		case n == 0:
			return bad("it is zero")
		case n > math.MaxInt64/int64(factor):
			return bad("it is too large")
		}
		return Size(n) * factor, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return bad("not a number")
	}
	bytes := f * float64(factor)
	switch {
	case bytes >= math.MaxInt64:
		return bad("it is too large")
	case bytes < 1:
		return bad("it is less than a byte")
	case bytes != math.Trunc(bytes):
		return bad("it is not a whole number of bytes")
	}
	return Size(bytes), nil
}

// String prints the size exactly, in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		factor Size
		name   string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s >= u.factor && s%u.factor == 0 {
			return strconv.FormatInt(int64(s/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Approx prints the size for people, rounded to about three digits: "1.25GiB".
func (s Size) Approx() string {
	for _, u := range []struct {
		factor Size
		name   string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s >= u.factor {
			v, digits := float64(s)/float64(u.factor), 2
			for limit := 10.0; v >= limit && digits > 0; limit *= 10 {
				digits--
			}
			text := strconv.FormatFloat(v, 'f', digits, 64)
			if strings.Contains(text, ".") {
				text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
			}
			return text + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Set makes *Size a flag value.
func (s *Size) Set(text string) error {
	v, err := ParseSize(text)
	if err == nil {
		*s = v
	}
	return err
}

// Type names the flag's value in help texts.
func (*Size) Type() string { return "size" }
