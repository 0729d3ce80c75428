package envoymodel

// Fraction is a share: numerator of denominator. Envoy's denominators are 100,
// 10,000 and 1,000,000.
type Fraction struct{ Numerator, Denominator uint64 }

// passes is D-19. A numerator above the denominator always passes.
func (f Fraction) passes(value uint64) bool { return value%f.Denominator < f.Numerator }

// shares are the three that a decision asks.
type shares struct{ client, random, overall Fraction }

// shares finds the shares in force: runtime before route (D-22), route before
// connection manager (D-5).
func (l Listener) shares(route Route) shares {
	s := shares{
		client:  clientShare(l.Tracing.Client),
		random:  percentShare(l.Tracing.Random),
		overall: percentShare(l.Tracing.Overall),
	}
	if t := route.Tracing; t != nil {
		s = shares{routeShare(t.Client), routeShare(t.Random), routeShare(t.Overall)} // D-5: all three
	}
	override(&s.client, l.Runtime.Client) // D-22
	override(&s.random, l.Runtime.Random)
	override(&s.overall, l.Runtime.Overall)
	return s
}

// percentShare converts a random or overall percentage of the connection
// manager: ten thousandths, cut, in doubles (D-17).
func percentShare(percent *float64) Fraction {
	if percent == nil {
		return Fraction{10_000, 10_000} // D-21
	}
	return Fraction{uint64(10_000 * (*percent / 100.0)), 10_000}
}

// clientShare converts the client percentage of the connection manager: whole
// percent, cut (D-18).
func clientShare(percent *float64) Fraction {
	if percent == nil {
		return Fraction{100, 100} // D-21
	}
	return Fraction{uint64(*percent), 100}
}

// routeShare takes a fraction of a route as it is. It is compared with a result
// below 10,000 all the same, so a millionth counts as a ten thousandth (D-20).
func routeShare(f *Fraction) Fraction {
	if f == nil {
		return Fraction{100, 100} // D-21
	}
	return *f
}

func override(share *Fraction, runtime *Fraction) {
	if runtime != nil {
		*share = *runtime
	}
}
