// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// The sizes of a page of a list.
const (
	pageDefault = 30
	pageMost    = 100
)

// page cuts a list to the page that the request asks for (page, per_page) and says in Link where the others are.
func page[T any](c *call, list []T) []T {
	q := c.r.URL.Query()
	size := positive(q.Get("per_page"), pageDefault)
	size = min(size, pageMost)
	number := positive(q.Get("page"), 1)
	last := max(1, (len(list)+size-1)/size)
	var links []string
	link := func(rel string, to int) {
		q.Set("page", strconv.Itoa(to))
		u := url.URL{Path: c.r.URL.Path, RawQuery: q.Encode()}
		links = append(links, fmt.Sprintf("<%s%s>; rel=%q", c.s.urls[serviceAPI], u.String(), rel))
	}
	if number > 1 {
		link("prev", min(number-1, last))
	}
	if number < last {
		link("next", number+1)
		link("last", last)
	}
	if number > 1 {
		link("first", 1)
	}
	if len(links) > 0 {
		c.header.Set("Link", strings.Join(links, ", "))
	}
	from := min((number-1)*size, len(list))
	return list[from:min(from+size, len(list))]
}

// positive reads a number of a query; anything else is the default.
func positive(text string, other int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1<<20 {
		return other
	}
	return n
}
