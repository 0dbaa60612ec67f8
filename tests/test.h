/* test.h - what a test file includes: tests/test_NAME.c defines `const struct suite suite_NAME`.
 * The Makefile writes the registry; tests/runner.c runs it (CUnit underneath) with TAP and JUnit output,
 * a process and a timeout per suite, filters, and skips with a reason. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <CUnit/CUnit.h>

/* Built with AddressSanitizer: several times slower, and its allocator keeps what is freed. */
#if defined(__SANITIZE_ADDRESS__)
enum { is_sanitized = 1 };
#elif defined(__has_feature)
enum { is_sanitized = __has_feature(address_sanitizer) };
#else
enum { is_sanitized = 0 };
#endif

struct test { const char *name; void (*run)(void); };
struct suite {
    const char *name;
    const struct test *tests;      /* ended by a NULL name */
    unsigned timeout_s;            /* for the whole suite; 0 = 60 */
};
extern const struct suite *const suite_registry[];     /* NULL-ended */

/* Marks the running test as skipped, with a reason; the test must return right after. */
void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line of explanation shown under a failing test. */
void test_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Path of the folder with recorded traces, or NULL when it is not there ($SERVELAB_SHARED or ../shared). */
const char *test_shared(void);
/* A fresh empty folder for this test, removed at the end. */
const char *test_dir(void);

#endif
