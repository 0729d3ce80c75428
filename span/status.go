package span

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Status is how a call ended, as a span states it.
type Status struct {
	// Code is codes.Unset or codes.Error.
	Code codes.Code
	// Description says what neither code nor ErrorType tells, in at most 512 bytes;
	// "" is none. The query of a URL in it is left out.
	Description string
	// ErrorType is the attribute error.type: the status code as a string, or the
	// type of a Go error; "" is none.
	ErrorType string
}

// Apply writes s to sp. Unset leaves sp's status as it is: what the program wrote
// itself stays.
func (s Status) Apply(sp trace.Span) {
	if s.ErrorType != "" {
		sp.SetAttributes(semconv.ErrorType.String(s.ErrorType))
	}
	if s.Code != codes.Unset {
		sp.SetStatus(s.Code, s.Description)
	}
}

// StatusMap says which outcomes of HTTP and gRPC calls are errors, as data. The zero
// value is [Semconv]. It is comparable and safe for concurrent use.
type StatusMap struct {
	// Server counts for spans that answer a call: all kinds but those of Client.
	Server Errors
	// Client counts for spans that make one: CLIENT and PRODUCER.
	Client Errors
	// CodesOnly goes by status codes alone, as Envoy's tracer does: a Go error makes
	// no Error (S-4), there is no Description (S-6), and ErrorType is set where
	// Envoy's tag "error" is true (E-1, E-3) instead of where Code is Error.
	CodesOnly bool
	// HTTPOnly leaves gRPC status codes out of account, as Envoy 1.31 did.
	HTTPOnly bool
	// Tag is which codes get Envoy's tag "error", on both sides; zero is E-1 and E-3. HTTP
	// is the lowest code, to 599, and no code at all has the tag besides.
	Tag Errors
}

// Errors is the set of status codes that are errors on one side of a call. A zero
// field is the rule of the semantic conventions for that side.
type Errors struct {
	// HTTP is the lowest HTTP status code that is an error; 0 or less is 500 on the server's
	// side, 400 on the client's. Codes that are none (below 100, 600 and above) are
	// errors beside it.
	HTTP int
	// GRPC has bit n set when the gRPC status code n is an error. Bit 17 stands for
	// all codes above 16. OK is no error, so 1 is the empty set; 0 is
	// ServerGRPCErrors on the server's side and AllGRPCErrors on the client's.
	//
	//	GRPC: 1<<codes.Internal | 1<<codes.Unavailable
	GRPC uint32
}

// Sets for Errors.GRPC.
const (
	// ServerGRPCErrors has UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
	// UNAVAILABLE and DATA_LOSS: the server's own faults.
	ServerGRPCErrors uint32 = 1<<2 | 1<<4 | 1<<12 | 1<<13 | 1<<14 | 1<<15
	// AllGRPCErrors has every code but OK.
	AllGRPCErrors uint32 = 1<<(aboveGRPC+1) - 2
)

// aboveGRPC is the bit for codes that gRPC has not defined.
const aboveGRPC = 17

// The ready-made maps. They are values to copy; do not assign to them.
var (
	// Semconv is OpenTelemetry's rule. HTTP: 4xx is an error of the client alone, 5xx
	// and unreadable codes on both sides. gRPC: ServerGRPCErrors on the server's
	// side, AllGRPCErrors on the client's. A Go error is an error, but not the
	// caller's cancellation; a deadline is. Semantic conventions 1.43, "HTTP spans"
	// and "gRPC", Status.
	Semconv = StatusMap{}
	// Envoy is the rule of Envoy's OpenTelemetry tracer since 1.32: S-1 to S-7.
	Envoy = StatusMap{CodesOnly: true}
	// Envoy131 is the rule of Envoy 1.31, which looked at HTTP alone, and Envoy130 that of
	// 1.30 and before, whose spans had no status.
	Envoy131 = StatusMap{CodesOnly: true, HTTPOnly: true}
	Envoy130 = StatusMap{CodesOnly: true, HTTPOnly: true, Server: Errors{HTTP: noHTTP}, Client: Errors{HTTP: noHTTP}}
	// AllErrors has 4xx, 5xx and every gRPC code but OK as errors on both sides: the
	// rule that older documents tell for Gloo (S-7).
	AllErrors = StatusMap{
		Server: Errors{HTTP: 400, GRPC: AllGRPCErrors},
		Client: Errors{HTTP: 400, GRPC: AllGRPCErrors},
	}
)

// noHTTP is above every status code.
const noHTTP = 1 << 30

// envoyGRPCTag are the codes with Envoy's tag "error", on either side (E-3).
const envoyGRPCTag = ServerGRPCErrors | 1<<8

// TagsHTTP tells whether an HTTP status code, 0 for none, gets Envoy's tag "error" (E-1).
func (m StatusMap) TagsHTTP(code int) bool {
	lowest := m.Tag.HTTP
	if lowest <= 0 {
		lowest = 500
	}
	return code == 0 || code >= lowest && code <= 599
}

// TagsGRPC tells whether a gRPC status code gets Envoy's tag "error" (E-3, E-4).
func (m StatusMap) TagsGRPC(code uint64) bool {
	set := m.Tag.GRPC
	if set == 0 {
		set = envoyGRPCTag
	}
	return code < aboveGRPC && hasGRPC(set, uint32(code))
}

// HTTP returns the status of a call that ended with an HTTP status code, 0 where
// there was none, and with err, nil where nothing but the code went wrong.
//
// Without CodesOnly err is an error whatever the code, with two exceptions. A client
// whose caller cancelled (errors.Is(err, context.Canceled)) has no error at all: the
// caller wanted it so. A server whose client left has ErrorType alone.
func (m StatusMap) HTTP(kind trace.SpanKind, code int, err error) (s Status) {
	rule, client := m.side(kind)
	err = usable(err)
	switch {
	case m.CodesOnly:
		if code >= rule.HTTP { // S-1, S-4
			s.Code = codes.Error
		}
		if m.TagsHTTP(code) { // E-1
			s.ErrorType = httpErrorType(code, err)
		}
		return s
	case code != 0 && (code >= rule.HTTP || code < 100 || code > 599):
		return Status{Code: codes.Error, Description: describe(err), ErrorType: httpErrorType(code, err)}
	}
	return goError(client, err)
}

// GRPC returns the status of a call that ended with a gRPC status code. err, where
// there is one, is the error that carried the code: it gives the description and
// changes nothing else, so the client's CANCELLED is an error and the server's
// NOT_FOUND is none. Only under OK err counts by itself, as for HTTP. ErrorType is the
// code's name, see [GRPCCode].
func (m StatusMap) GRPC(kind trace.SpanKind, code uint32, err error) (s Status) {
	rule, client := m.side(kind)
	err = usable(err)
	isError := hasGRPC(rule.GRPC, code)
	switch {
	case m.CodesOnly:
		if isError && !m.HTTPOnly { // S-2, S-5
			s.Code = codes.Error
		}
		if m.TagsGRPC(uint64(code)) { // E-3, E-4
			s.ErrorType = GRPCCode(code)
		}
		return s
	case isError:
		return Status{Code: codes.Error, Description: describe(err), ErrorType: GRPCCode(code)}
	case code == 0:
		return goError(client, err)
	}
	return Status{}
}

// side returns the rule for spans of a kind, defaults filled in.
func (m StatusMap) side(kind trace.SpanKind) (rule Errors, client bool) {
	rule, def := m.Server, Errors{HTTP: 500, GRPC: ServerGRPCErrors}
	if kind == trace.SpanKindClient || kind == trace.SpanKindProducer {
		client = true
		rule, def = m.Client, Errors{HTTP: 400, GRPC: AllGRPCErrors}
	}
	if rule.HTTP <= 0 {
		rule.HTTP = def.HTTP
	}
	if rule.GRPC == 0 {
		rule.GRPC = def.GRPC
	}
	return rule, client
}

func hasGRPC(set uint32, code uint32) bool {
	return code != 0 && set>>min(code, aboveGRPC)&1 != 0
}

// httpErrorType is the ErrorType of a call that ended with an HTTP status code.
func httpErrorType(code int, err error) string {
	switch {
	case code != 0:
		return strconv.Itoa(code)
	case err != nil:
		return errorType(err)
	}
	return "_OTHER" // no response, and nobody says why
}

// goError is the status of a call whose code is no error.
func goError(client bool, err error) Status {
	switch {
	case err == nil:
		return Status{}
	case errors.Is(err, context.Canceled) && client:
		return Status{}
	case errors.Is(err, context.Canceled):
		return Status{ErrorType: errorType(err)}
	}
	return Status{Code: codes.Error, Description: describe(err), ErrorType: errorType(err)}
}

// maxDescription bounds descriptions in bytes.
const maxDescription = 512

// describe returns the text of err, bounded, as valid UTF-8, and with the query of
// its URL left out: that is where secrets stand.
func describe(err error) string {
	if err == nil {
		return ""
	}
	text := fmt.Sprint(err) // and not Error(): Sprint survives a panic in it
	var u *url.Error
	if errors.As(err, &u) {
		if i := strings.IndexAny(u.URL, "?#"); i >= 0 {
			text = strings.ReplaceAll(text, strconv.Quote(u.URL), strconv.Quote(u.URL[:i]))
		}
	}
	return semconv.Cut(strings.ToValidUTF8(text, "\uFFFD"), maxDescription)
}

// grpcCodes are the names of gRPC's status codes by number.
// https://grpc.io/docs/guides/status-codes/
var grpcCodes = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
	"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
	"ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// GRPCCode returns the name of a gRPC status code as it stands in
// rpc.response.status_code: "OK", "DEADLINE_EXCEEDED"; a code that gRPC has not
// defined is its number.
func GRPCCode(code uint32) string {
	if code < uint32(len(grpcCodes)) {
		return grpcCodes[code]
	}
	return strconv.FormatUint(uint64(code), 10)
}
