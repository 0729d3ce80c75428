package sampler

import (
	"fmt"
	"math"
	"strconv"
)

// Denominator is what a [Fraction] counts in: Envoy's FractionalPercent knows
// three. The zero value is none of them.
type Denominator uint8

const (
	Hundred Denominator = iota + 1
	TenThousand
	Million
)

// What Percent and Of are not allowed to make, kept for New to report.
const (
	unknown Denominator = math.MaxUint8 - iota
	zero                // Of was given 0
	refused             // Percent was given less than 0 or more than 100; the numerator has its bits
)

// size is 0 for what is no denominator.
func (d Denominator) size() uint32 {
	switch d {
	case Hundred:
		return 100
	case TenThousand:
		return 10_000
	case Million:
		return 1_000_000
	}
	return 0
}

// String returns Envoy's name: HUNDRED, TEN_THOUSAND or MILLION.
func (d Denominator) String() string {
	switch d {
	case Hundred:
		return "HUNDRED"
	case TenThousand:
		return "TEN_THOUSAND"
	case Million:
		return "MILLION"
	}
	return "Denominator(" + strconv.Itoa(int(d)) + ")"
}

// Fraction is a share of requests: a numerator and one of Envoy's denominators.
// The denominator matters beyond the size of the share, because it says which
// digits of the sampling number are looked at (D-16). The zero value is "not
// set", which is 100 % (D-21). Fractions are comparable with ==.
type Fraction struct {
	n     uint32
	d     Denominator
	whole uint8 // made by Percent: 1 + the percentage without its decimals
}

// Percent returns p percent, 0 to 100, by the arithmetic of an Envoy listener:
// int(10000 * (p/100)) of TenThousand, cut and not rounded, so that 0.29 is 28 and
// 57 is 5699 (D-17), and nothing is finer than 0.01. Standing as a client share it
// is cut to whole percents, so that 0.5 is none (D-18). [Of] is exact in both
// places. A p outside 0 to 100 or NaN hits nothing, and [New] refuses it.
func Percent(p float64) Fraction {
	if !(0 <= p && p <= 100) {
		return Fraction{n: math.Float32bits(float32(p)), d: refused}
	}
	return Fraction{n: uint32(10_000 * (p / 100)), d: TenThousand, whole: 1 + uint8(p)}
}

// Of returns n of d, as a route's FractionalPercent states it. An n above d is
// always (D-19). A d that is none of the constants hits nothing, and [New] refuses
// it.
func Of(n uint32, d Denominator) Fraction {
	switch d {
	case 0:
		d = zero
	case zero, refused:
		d = unknown
	}
	return Fraction{n: n, d: d}
}

// Hit reports whether the share takes the number in: n % denominator < numerator
// (D-19). A Fraction that is not set takes every number.
func (f Fraction) Hit(n uint32) bool {
	return f.hit(uint64(n))
}

func (f Fraction) hit(n uint64) bool {
	if f == (Fraction{}) {
		return true // D-21
	}
	size := uint64(f.d.size())
	return size != 0 && n%size < uint64(f.n) // D-19
}

// hitRequest tests the sampling number of a request id as Envoy does: by its
// last four digits, result (D-4). That leaves nothing to test a Million by: with
// envoy the quirk of D-20 is kept, else the number's next two digits are taken
// as well. They rank below result, so that 1 % of a Million are the same requests
// as 1 % of TenThousand and the smaller of two shares counts, as in D-15.
func (f Fraction) hitRequest(number uint32, envoy bool) bool {
	result := number % 10_000
	if f.d == Million && !envoy {
		return result*100+number/10_000%100 < f.n
	}
	return f.Hit(result)
}

// hitDraw tests a random number for a client share (D-13).
func (f Fraction) hitDraw(n uint32) bool {
	if f.whole != 0 {
		return n%100 < uint32(f.whole-1) // D-18
	}
	return f.Hit(n)
}

// String returns the share in percent and in its own terms, such as
// 1% (100/10000), and "unset" for the zero value.
func (f Fraction) String() string {
	switch {
	case f == (Fraction{}):
		return "unset"
	case f.d == refused:
		return fmt.Sprintf("Percent(%v)", math.Float32frombits(f.n))
	case f.d == zero:
		return fmt.Sprintf("Of(%d, 0)", f.n)
	case f.d.size() == 0:
		return fmt.Sprintf("Of(%d, %d)", f.n, uint8(f.d))
	}
	size := f.d.size()
	return fmt.Sprintf("%.6g%% (%d/%d)", 100*float64(f.n)/float64(size), f.n, size)
}

// check reports a Fraction that cannot be one, as a mistake in the field name.
func (f Fraction) check(name string) error {
	switch {
	case f == (Fraction{}) || f.d.size() != 0:
		return nil
	case f.d == refused:
		return fmt.Errorf("sampler: %s is %v, allowed is 0 to 100", name, f)
	}
	return fmt.Errorf("sampler: %s is %v, allowed is Hundred, TenThousand or Million", name, f)
}
