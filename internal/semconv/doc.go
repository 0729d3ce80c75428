// Package semconv names every attribute that meshtrace writes, once.
//
// The constants are typed, so a use reads as what it does:
//
//	sp.SetAttributes(semconv.HTTPRoute.String("/carts/{id}"))
//
// OpenTelemetry's names are those of the semantic conventions 1.43. They are
// spelled here, and not taken from a versioned package of OpenTelemetry, because
// names that a program emits are a promise to its dashboards: they change when
// this file changes, never by an upgrade of a dependency. Envoy's names are those
// its tracers write. What neither of them has a word for begins with "meshtrace.".
package semconv
