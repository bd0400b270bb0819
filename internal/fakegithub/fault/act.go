// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Act is what a rule does to a request. The zero Act is none.
type Act struct {
	do func(*exchange)
}

// Answer is one answer in the place of the server's.
func Answer(status int, header http.Header, body string) Act {
	return Act{func(x *exchange) {
		c := &captured{header: maps.Clone(header), status: status}
		if c.header == nil {
			c.header = http.Header{}
		}
		c.body.WriteString(body)
		x.head(c, len(body))
		_, _ = x.w.Write(c.body.Bytes()) // the client's trouble, if any
	}}
}

// Status is an error in the words of the REST API, with further headers.
func Status(status int, header http.Header) Act {
	return refuse(status, http.StatusText(status), "https://docs.github.com/rest", header)
}

func refuse(status int, message, url string, header http.Header) Act {
	body, err := json.Marshal(map[string]string{"message": message, "documentation_url": url, "status": strconv.Itoa(status)})
	if err != nil { // strings only: cannot happen
		body = []byte("{}")
	}
	all := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	maps.Copy(all, header)
	return Answer(status, all, string(body))
}

// RateLimited is the refusal of the primary rate limit: no request remains until the reset.
func RateLimited(status int, reset time.Time) Act {
	return refuse(status, "API rate limit exceeded for installation ID 1.", "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api",
		http.Header{
			"X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Used": {"5000"}, "X-Ratelimit-Resource": {"core"},
			"X-Ratelimit-Reset": {strconv.FormatInt(reset.Unix(), 10)},
		})
}

// SecondaryLimit is the refusal of a secondary rate limit. A negative time leaves Retry-After out.
func SecondaryLimit(status int, after time.Duration) Act {
	header := http.Header{}
	if after >= 0 {
		header.Set("Retry-After", strconv.Itoa(int(after/time.Second)))
	}
	return refuse(status, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
		"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits", header)
}

// Page is a page for people where a program expects JSON, as load balancers send.
func Page(status int) Act {
	const page = "<!DOCTYPE html>\n<html><head><title>Unicorn! &middot; GitHub</title></head>" +
		"<body><p><strong>We had issues producing the response to your request.</strong></p></body></html>\n"
	return Answer(status, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, page)
}

// Lost lets the server do what was asked, drops its answer and acts instead: the caller cannot know what happened.
func Lost(instead Act) Act {
	if instead.do == nil {
		return Act{}
	}
	return Act{func(x *exchange) {
		x.capture()
		instead.do(x)
	}}
}

// Reset resets the connection.
func Reset() Act { return Act{(*exchange).reset} }

// Hang gives no answer until the client goes or the rule is removed; then the connection is reset.
func Hang() Act {
	return Act{func(x *exchange) {
		ctx, cancel := x.until()
		defer cancel()
		<-ctx.Done()
		x.reset()
	}}
}

// Hold keeps the request until the rule is removed and then passes it to the server, unless the client went.
func Hold() Act {
	return Act{func(x *exchange) {
		ctx, cancel := x.until()
		defer cancel()
		<-ctx.Done()
		if x.r.Context().Err() == nil {
			x.pass()
		}
	}}
}

// Delay passes the request to the server after a while.
func Delay(d time.Duration) Act {
	return Act{func(x *exchange) {
		ctx, cancel := x.until()
		defer cancel()
		_ = x.handler.wait(ctx, d) // a rule that is removed ends the delay
		if x.r.Context().Err() == nil {
			x.pass()
		}
	}}
}

// Drip sends the server's answer a byte at a time, with a pause before each.
func Drip(every time.Duration) Act {
	return Act{func(x *exchange) { x.drip(x.capture(), every) }}
}

// Half sends half of the server's answer under the length of the whole, and ends the connection.
func Half() Act {
	return Act{func(x *exchange) {
		c := x.capture()
		length := max(c.body.Len(), 2) // an empty answer is announced as one that has a body
		if c.status == http.StatusNoContent {
			c.status = http.StatusOK
		}
		x.head(c, length)
		_, _ = x.w.Write(c.body.Bytes()[:c.body.Len()/2])
		_ = http.NewResponseController(x.w).Flush()
		x.end()
	}}
}

// Spoil changes the body of the server's answer; its length is announced as it is then.
func Spoil(change func([]byte) []byte) Act {
	if change == nil {
		return Act{}
	}
	return Act{func(x *exchange) {
		c := x.capture()
		body := change(bytes.Clone(c.body.Bytes()))
		x.head(c, len(body))
		_, _ = x.w.Write(body)
	}}
}

// WrongJSON sends the server's status with JSON of another type than any answer has.
func WrongJSON() Act { return Spoil(func([]byte) []byte { return []byte(`"unexpected"`) }) }

// CutJSON sends the server's answer without its second half, as if it were whole.
func CutJSON() Act { return Spoil(func(b []byte) []byte { return b[:len(b)/2] }) }
