package sampler

import (
	"math"
	"testing"
)

// hits counts the numbers below n that f takes by test.
func hits(n uint32, test func(uint32) bool) uint32 {
	var c uint32
	for i := range n {
		if test(i) {
			c++
		}
	}
	return c
}

func TestPercentListener(t *testing.T) { // D-17
	for _, c := range []struct {
		percent float64
		want    uint32 // of 10000
	}{
		{0, 0}, {0.0099, 0}, {0.01, 1}, {0.29, 28}, {0.5, 50}, {0.57, 56}, {0.58, 57}, {1, 100},
		{1.13, 112}, {1.16, 115}, {4.35, 434}, {33.33, 3333}, {57, 5699}, {99.99, 9998}, {100, 10000},
	} {
		f := Percent(c.percent)
		if got := hits(10_000, f.Hit); got != c.want {
			t.Errorf("Percent(%v) hits %d of 10000, want %d", c.percent, got, c.want)
		}
		for _, envoy := range []bool{false, true} {
			if got := hits(10_000, func(n uint32) bool { return f.hitRequest(n, envoy) }); got != c.want {
				t.Errorf("Percent(%v), envoy %v: %d of 10000 requests, want %d", c.percent, envoy, got, c.want)
			}
		}
	}
}

func TestPercentClient(t *testing.T) { // D-18
	for _, c := range []struct {
		percent float64
		want    uint32 // of 100
	}{{0, 0}, {0.5, 0}, {0.99, 0}, {1, 1}, {1.9, 1}, {57, 57}, {99.9, 99}, {100, 100}} {
		if got := hits(100, Percent(c.percent).hitDraw); got != c.want {
			t.Errorf("Percent(%v) as a client share hits %d of 100, want %d", c.percent, got, c.want)
		}
	}
	if got := hits(10_000, Of(50, TenThousand).hitDraw); got != 50 {
		t.Errorf("Of(50, TenThousand) as a client share hits %d of 10000, want 50", got)
	}
}

func TestHit(t *testing.T) { // D-19
	for _, c := range []struct {
		f    Fraction
		n    uint32
		want bool
	}{
		{Fraction{}, 0, true}, // D-21
		{Fraction{}, math.MaxUint32, true},
		{Of(0, Hundred), 0, false},
		{Of(1, Hundred), 0, true},
		{Of(1, Hundred), 1, false},
		{Of(1, Hundred), 100, true},
		{Of(1, TenThousand), 10_000, true},
		{Of(1, TenThousand), 100, false},
		{Of(1, Million), 1_000_000, true},
		{Of(1, Million), 10_000, false}, // RID-17
		{Of(101, Hundred), 99, true},
		{Of(math.MaxUint32, Million), 999_999, true},
		{Of(50, 0), 0, false},
		{Of(50, 4), 0, false},
		{Of(50, 253), 0, false},
		{Of(50, 254), 0, false},
		{Of(50, 255), 0, false},
		{Percent(-1), 0, false},
		{Percent(100.01), 0, false},
		{Percent(math.NaN()), 0, false},
		{Percent(math.Inf(1)), 0, false},
	} {
		if got := c.f.Hit(c.n); got != c.want {
			t.Errorf("%v.Hit(%d) = %v, want %v", c.f, c.n, got, c.want)
		}
	}
}

func TestMillion(t *testing.T) { // D-20
	for _, c := range []struct {
		n     uint32
		envoy uint32 // of 10000
	}{
		{0, 0}, {1, 1}, {100, 100}, {9_900, 9_900}, {9_999, 9_999}, {10_000, 10_000}, {200_000, 10_000}, {333_333, 10_000}, {1_000_000, 10_000},
	} {
		f := Of(c.n, Million)
		if got := hits(10_000, func(n uint32) bool { return f.hitRequest(n, true) }); got != c.envoy {
			t.Errorf("%v as Envoy: %d of 10000 requests, want %d", f, got, c.envoy)
		}
		if got := hits(1_000_000, func(n uint32) bool { return f.hitRequest(n, false) }); got != c.n {
			t.Errorf("%v scaled: %d of 1000000 requests, want %d", f, got, c.n)
		}
	}
	// Scaled, a Million takes the requests that TenThousand takes.
	for _, n := range []uint32{0, 1, 99, 100, 2_500, 9_999, 10_000} {
		fine, coarse := Of(n*100, Million), Of(n, TenThousand)
		for number := uint32(0); number < 3_000_000; number += 7 {
			if fine.hitRequest(number, false) != coarse.hitRequest(number, false) {
				t.Fatalf("number %d: %v takes %v, %v does not agree", number, fine, fine.hitRequest(number, false), coarse)
			}
		}
	}
}

func TestFractionString(t *testing.T) {
	for _, c := range []struct {
		f    Fraction
		want string
	}{
		{Fraction{}, "unset"},
		{Percent(1), "1% (100/10000)"},
		{Percent(57), "56.99% (5699/10000)"},
		{Of(10, Hundred), "10% (10/100)"},
		{Of(333_333, Million), "33.3333% (333333/1000000)"},
		{Of(1, Million), "0.0001% (1/1000000)"},
		{Percent(-0.5), "Percent(-0.5)"},
		{Of(5, 0), "Of(5, 0)"},
		{Of(5, 9), "Of(5, 9)"},
	} {
		if got := c.f.String(); got != c.want {
			t.Errorf("String() = %q, want %q", got, c.want)
		}
	}
	for d, want := range map[Denominator]string{Hundred: "HUNDRED", TenThousand: "TEN_THOUSAND", Million: "MILLION", 0: "Denominator(0)"} {
		if got := d.String(); got != want {
			t.Errorf("Denominator(%d).String() = %q, want %q", uint8(d), got, want)
		}
	}
}
