package sampler

import "math"

// EnvoyGatewayFraction returns what Envoy Gateway makes of numerator/denominator in
// a BackendTrafficPolicy's samplingFraction (EG-8): of 100, which is also what 0
// stands for, it stays so; of 1,000 and 10,000 it becomes TenThousand; of anything
// else Million, cut. Under Config.EnvoyFractions a Million share of 1 % and more is then
// everything (D-20).
func EnvoyGatewayFraction(numerator, denominator uint32) Fraction {
	switch denominator {
	case 0, 100:
		return Of(numerator, Hundred)
	case 1_000:
		return Of(scaled(numerator, 10, 1), TenThousand)
	case 10_000:
		return Of(numerator, TenThousand)
	}
	return Of(scaled(numerator, 1_000_000, denominator), Million)
}

// GlooRoutePercent returns what Gloo makes of a route's percentage (GL-4): a Million
// share, which under Config.EnvoyFractions is everything from 1 % up (D-20). It is for
// Shares of a route; a listener's percentage is Percent. p is 0 to 100; what is
// outside counts as the nearest of the two, and NaN as 0.
func GlooRoutePercent(p float64) Fraction {
	p = max(0, min(p, 100))
	if math.IsNaN(p) {
		p = 0
	}
	return Of(uint32(p*10_000), Million)
}

// scaled returns n times by over of, cut, and the largest number where it has no room.
func scaled(n, by, of uint32) uint32 {
	return uint32(min(uint64(n)*uint64(by)/uint64(of), math.MaxUint32))
}
