// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Message-signalled interrupts of QEMU's "edu" device (1234:11e8) for a program in user space.
 *
 * Debian's kernel has uio_pci_generic, which knows INTx only, and no VFIO without an IOMMU. INTx of a
 * device behind a PCI expander bus does not arrive under QEMU's q35 machine, and GPUs use MSI anyway. This
 * driver takes the device, enables its one MSI vector and hands it to the kernel's UIO framework: a read of
 * /dev/uioN returns how many interrupts have come (kernel documentation, driver-api/uio-howto).
 */
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uio_driver.h>

static irqreturn_t uio_edu_handler(int irq, struct uio_info *info)
{
	/* The program clears the cause in the device; UIO counts and wakes it. */
	return IRQ_HANDLED;
}

static int uio_edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct uio_info *info;
	int err;

	info = devm_kzalloc(&pdev->dev, sizeof(*info), GFP_KERNEL);
	if (!info)
		return -ENOMEM;
	err = pci_enable_device(pdev);
	if (err)
		return err;
	pci_set_master(pdev);
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI);
	if (err < 0)
		goto disable;
	info->name = "uio_edu_msi";
	info->version = "1";
	info->irq = pci_irq_vector(pdev, 0);
	info->handler = uio_edu_handler;
	err = uio_register_device(&pdev->dev, info);
	if (err)
		goto vectors;
	pci_set_drvdata(pdev, info);
	return 0;

vectors:
	pci_free_irq_vectors(pdev);
disable:
	pci_disable_device(pdev);
	return err;
}

static void uio_edu_remove(struct pci_dev *pdev)
{
	uio_unregister_device(pci_get_drvdata(pdev));
	pci_free_irq_vectors(pdev);
	pci_disable_device(pdev);
}

static const struct pci_device_id uio_edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, uio_edu_ids);

static struct pci_driver uio_edu_driver = {
	.name = "uio_edu_msi",
	.id_table = uio_edu_ids,
	.probe = uio_edu_probe,
	.remove = uio_edu_remove,
};
module_pci_driver(uio_edu_driver);

MODULE_DESCRIPTION("MSI of QEMU's edu device through UIO");
MODULE_AUTHOR("The Shakedown authors");
MODULE_LICENSE("GPL");
