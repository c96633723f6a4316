/* SPDX-License-Identifier: Apache-2.0 */
/*
 * void fiber_switch(void **save_sp, void *load_sp);
 *
 * Saves what the C calling convention promises to keep on the running stack, stores the stack pointer at *save_sp, takes the other
 * one and restores from there.  The floating point control words are the process's and never changed.
 * A new stack is laid out by fiber.c as if it had called fiber_switch from fiber_enter.
 */
#if defined(__x86_64__)
	.text
	.globl fiber_switch
	.hidden fiber_switch
	.type fiber_switch, @function
	.balign 16
fiber_switch:
	endbr64
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size fiber_switch, . - fiber_switch

	/* The first return of a new stack comes here: calls the function in rbx. No frame above: unwinders stop. */
	.globl fiber_enter
	.hidden fiber_enter
	.type fiber_enter, @function
	.balign 16
fiber_enter:
	.cfi_startproc
	.cfi_undefined rip
	endbr64
	xorl %ebp, %ebp
	call *%rbx
	ud2
	.cfi_endproc
	.size fiber_enter, . - fiber_enter

	/* Indirect branch tracking is kept up; shadow stacks are not, and this note says so to the linker. */
	.section .note.gnu.property, "a"
	.balign 8
	.long 4
	.long 16
	.long 5
	.asciz "GNU"
	.long 0xc0000002
	.long 4
	.long 1
	.long 0
#elif defined(__aarch64__)
	.text
	.globl fiber_switch
	.hidden fiber_switch
	.type fiber_switch, %function
	.balign 16
fiber_switch:
	hint #34 /* bti c */
	sub sp, sp, #160
	stp x19, x20, [sp, #0]
	stp x21, x22, [sp, #16]
	stp x23, x24, [sp, #32]
	stp x25, x26, [sp, #48]
	stp x27, x28, [sp, #64]
	stp x29, x30, [sp, #80]
	stp d8, d9, [sp, #96]
	stp d10, d11, [sp, #112]
	stp d12, d13, [sp, #128]
	stp d14, d15, [sp, #144]
	mov x9, sp
	str x9, [x0]
	mov sp, x1
	ldp x19, x20, [sp, #0]
	ldp x21, x22, [sp, #16]
	ldp x23, x24, [sp, #32]
	ldp x25, x26, [sp, #48]
	ldp x27, x28, [sp, #64]
	ldp x29, x30, [sp, #80]
	ldp d8, d9, [sp, #96]
	ldp d10, d11, [sp, #112]
	ldp d12, d13, [sp, #128]
	ldp d14, d15, [sp, #144]
	add sp, sp, #160
	ret
	.size fiber_switch, . - fiber_switch

	.globl fiber_enter
	.hidden fiber_enter
	.type fiber_enter, %function
	.balign 16
fiber_enter:
	.cfi_startproc
	.cfi_undefined x30
	hint #36 /* bti j */
	mov x29, #0
	blr x19
	brk #1
	.cfi_endproc
	.size fiber_enter, . - fiber_enter
#endif
	.section .note.GNU-stack, "", %progbits
