package requestid

import "strconv"

// Reason is why a request is traced, as the digit at index 14 of its id tells
// (RID-9). The zero value is NotTraceable.
type Reason uint8

// The reasons of Envoy's envoy/tracing/trace_reason.h that an id can carry.
// HealthCheck is missing because it is never written (RID-13).
const (
	NotTraceable  Reason = iota // 4: no trace
	Sampling                    // 9: chosen by its share (D-9)
	ServiceForced               // a: x-envoy-force-trace (D-8)
	ClientForced                // b: x-client-trace-id (D-7)
)

const (
	digitNotTraceable  = '4'
	digitSampling      = '9'
	digitServiceForced = 'a'
	digitClientForced  = 'b'
)

// String returns Envoy's name of the reason.
func (r Reason) String() string {
	switch r {
	case NotTraceable:
		return "NotTraceable"
	case Sampling:
		return "Sampling"
	case ServiceForced:
		return "ServiceForced"
	case ClientForced:
		return "ClientForced"
	}
	return "Reason(" + strconv.Itoa(int(r)) + ")"
}

// digit is false for a value that is no reason.
func (r Reason) digit() (byte, bool) {
	switch r {
	case NotTraceable:
		return digitNotTraceable, true
	case Sampling:
		return digitSampling, true
	case ServiceForced:
		return digitServiceForced, true
	case ClientForced:
		return digitClientForced, true
	}
	return 0, false
}

// Reason returns what the reason digit says. It is NotTraceable for every digit
// but 9, a and b in lower case (RID-9), and for ids of another length than 36
// bytes (RID-10).
func (id ID) Reason() Reason {
	if len(id) != uuidLen {
		return NotTraceable
	}
	switch id[reasonIndex] {
	case digitSampling:
		return Sampling
	case digitServiceForced:
		return ServiceForced
	case digitClientForced:
		return ClientForced
	}
	return NotTraceable
}

// WithReason returns the id with the digit of r. An id of another length than 36
// bytes comes back as it is: the decision then holds for this hop and is not
// told to the next (RID-12). So it does for a value that is no reason. Whether
// the rest is a UUID is not looked at (RID-10). It allocates only if the digit
// changes.
func (id ID) WithReason(r Reason) ID {
	c, ok := r.digit()
	if !ok || len(id) != uuidLen || id[reasonIndex] == c {
		return id
	}
	var b [uuidLen]byte
	copy(b[:], id)
	b[reasonIndex] = c
	return ID(b[:])
}
