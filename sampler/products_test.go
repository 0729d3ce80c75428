package sampler

import (
	"math"
	"testing"
)

func TestEnvoyGatewayFraction(t *testing.T) { // EG-8
	for _, tt := range []struct {
		n, d uint32
		want Fraction
	}{
		{1, 0, Of(1, Hundred)},
		{1, 100, Of(1, Hundred)},
		{5, 1000, Of(50, TenThousand)},
		{5, 10000, Of(5, TenThousand)},
		{5, 100000, Of(50, Million)},
		{5, 1000000, Of(5, Million)},
		{1, 3, Of(333333, Million)},
		{math.MaxUint32, 1, Of(math.MaxUint32, Million)},
		{math.MaxUint32, 1000, Of(math.MaxUint32, TenThousand)},
	} {
		if got := EnvoyGatewayFraction(tt.n, tt.d); got != tt.want {
			t.Errorf("EnvoyGatewayFraction(%d, %d) = %v, want %v", tt.n, tt.d, got, tt.want)
		}
	}
}

func TestGlooRoutePercent(t *testing.T) { // GL-4
	for p, want := range map[float64]Fraction{
		0: Of(0, Million), 0.5: Of(5000, Million), 0.99: Of(9900, Million), 20: Of(200000, Million), 100: Of(1000000, Million),
		-1: Of(0, Million), 200: Of(1000000, Million), math.Inf(1): Of(1000000, Million),
	} {
		if got := GlooRoutePercent(p); got != want {
			t.Errorf("GlooRoutePercent(%v) = %v, want %v", p, got, want)
		}
	}
	if got := GlooRoutePercent(math.NaN()); got != Of(0, Million) {
		t.Errorf("GlooRoutePercent(NaN) = %v, want none", got)
	}
	// D-20: to Envoy half a percent is half of everything, and 1 % is all of it.
	for p, want := range map[float64]int{0.5: 5000, 1: 10000} {
		hits := 0
		cfg := Config{Random: GlooRoutePercent(p), EnvoyFractions: true}
		for n := range uint32(10000) {
			if cfg.Random.hitRequest(n, true) {
				hits++
			}
		}
		if hits != want {
			t.Errorf("%v %% of Gloo's hits %d of 10,000 in Envoy, want %d", p, hits, want)
		}
	}
}
