// SPDX-License-Identifier: GPL-2.0-only
/* One line on standard error in one write, so that lines of threads do not mix */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libexasock.h"

void exa_say(const char *prefix, const char *format, ...)
{
	size_t length = strlen(prefix);
	int kept = errno, more;
	char line[256];
	va_list list;

	memcpy(line, prefix, length);
	va_start(list, format);
	more = vsnprintf(line + length, sizeof(line) - length - 1, format, list);
	va_end(list);
	if (more > 0)
		length += more;
	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	if (real(write)(STDERR_FILENO, line, length) < 0)
		errno = kept;	/* nobody listens */
	errno = kept;
}
