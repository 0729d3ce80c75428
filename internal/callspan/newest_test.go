//go:build newest

// With the tag newest alone: OpenTelemetry has maps from 1.47 on, go.mod asks for less.

package callspan

import "go.opentelemetry.io/otel/attribute"

func init() {
	attributes = append(attributes,
		attribute.Map("a", attribute.Int("b", 1), attribute.Map("c", attribute.String("d", "text"))),
		attribute.Map("m", attribute.Int("twice", 1), attribute.Int("twice", 2)),
		attribute.Map("m"),
	)
}
